"""The replay of ASHA, against a loop that follows Li et al. 2020, algorithm 2, for trials that come one by one."""

import random

from benchmarks.pruning import replay
from hypothesis import given
from hypothesis import strategies as st

from sweeps.search.optimizers import REDUCTION


def obvious(curves, finals, order):
    """At points 1, 2, 4, … a trial goes on if it is among the best half of those that came there, at least one."""
    seen, spent, left = {}, 0, []
    for number in order:
        rung = 1
        for point, value in enumerate(curves[number], 1):
            if point == rung and point < len(curves[number]):
                values = seen.setdefault(rung, [])
                values.append(value)
                if value > sorted(values)[max(len(values) // REDUCTION, 1) - 1]:
                    break
                rung *= REDUCTION
        else:
            left.append(finals[number])
        spent += point
    return 1 - spent / (len(curves[0]) * len(order)), min(left)


@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(2, 10))
def test_the_replay_is_asha(seed, num_trials, num_points):
    numbers = random.Random(seed)
    curves = [[numbers.random() for _ in range(num_points)] for _ in range(num_trials)]
    finals = [numbers.random() for _ in range(num_trials)]
    order = numbers.sample(range(num_trials), num_trials)
    assert tuple(replay(curves, finals, order)) == obvious(curves, finals, order)


def test_equal_trials_are_not_pruned():
    assert replay([[1.0, 1.0, 1.0]] * 4, [1.0] * 4, range(4)) == (0.0, 1.0)
