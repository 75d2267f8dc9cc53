import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.base.errors import UsageError
from analysis.evidence.searches import is_better, path_of, read_search, search_from_json, search_to_json
from tests.helpers.searches import FLOPS, LOSS, parsed, search_of, trial, typical


def test_search_is_read_from_its_file(tmp_path):
    path = path_of(tmp_path, "loss_weight_search")
    assert path == tmp_path / "searches/loss_weight_search.json"
    path.parent.mkdir()
    path.write_text(json.dumps(typical()))
    found = read_search(path)
    assert (found.sampler, found.pruner, len(found.trials)) == ("tpe", "asha", 24)
    first_pruned, *_ = found.in_state("pruned")
    assert first_pruned.curve
    assert first_pruned.value is None
    assert found.winning is not None
    assert found.winning.value == min(one.value for one in found.finished)
    with pytest.raises(UsageError, match=r"other\.json cannot be read"):
        read_search(path_of(tmp_path, "other"))


@pytest.mark.parametrize("metrics", [(LOSS,), (LOSS, FLOPS)])
def test_search_comes_back_as_the_same_json(metrics):
    values = typical(metrics=metrics)
    written = json.loads(json.dumps(search_to_json(parsed(values))))
    assert written == values
    assert parsed(written) == parsed(values)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12), st.booleans())
def test_a_front_is_accepted_only_if_no_trial_is_better_than_its_trials(points, is_second_higher_better):
    """The oracle compares all pairs; any other finished trial put on the front is refused."""
    second = FLOPS | {"direction": "maximize" if is_second_higher_better else "minimize"}
    values = search_of([trial(n, values=point) for n, point in enumerate(points)], metrics=(LOSS, second))
    search = parsed(values)
    assert search.winner in search.front
    assert search.winning is not None
    assert search.winning.values[0] == min(one.values[0] for one in search.finished if one.number in search.front)
    for other in set(range(len(points))) - set(search.front):
        with pytest.raises(UsageError, match="is worse than another trial in every metric"):
            parsed(values | {"front": [*search.front, other]})


def test_a_trial_that_is_equal_is_not_better():
    assert not is_better([1, 2], [1, 2])
    assert is_better([1, 2], [1, 3])
    assert not is_better([1, 2], [0, 3])


def with_first(**changed):
    return {"trials": [trial(0) | changed]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "x is a search of version 2, and this code reads version 1"),
        ({"version": None}, "x is not the record of a search: version"),
        ({"metrics": []}, "x is not the record of a search: metrics: "),
        ({"metrics": [LOSS | {"direction": "down"}]}, "metrics.0.direction: Input should be 'minimize' or 'maximize'"),
        ({"metrics": [LOSS, LOSS]}, "metric 'content_loss' is there twice"),
        ({"space": [{"name": "a", "low": 1.0, "high": 0.0}]}, "a has no range from low to high"),
        ({"space": [{"name": "a", "low": 0.0, "high": 1.0, "log": True}]}, "a has no range from low to high"),
        ({"space": [{"name": "a", "low": 0.0, "levels": {"b": "c"}}]}, "a must have levels, or a range"),
        ({"space": [{"name": "a", "levels": {}}]}, "a must have levels, or a range"),
        ({"trials": [trial(0), trial(0)]}, "trial 0 is there twice"),
        (with_first(state="lost"), "trials.0.state"),
        (with_first(values=None), "trial 0 is finished and has no value"),
        (with_first(values=[1.0, 2.0]), "trial 0 has 2 values, and there are 1 metrics"),
        (with_first(values=[float("nan")]), "trials.0.values.0: Input should be a finite number"),
        (with_first(params={}), "trial 0 is finished and has no value, or no value of a dimension"),
        (with_first(params={"a": 1}), "trial 0 has a=1.0, which is not in the space"),
        (with_first(params={"objective.pixel_weight": 3}), "objective.pixel_weight=3.0, which is not in the space"),
        (with_first(params={"objective.pixel_weight": "3"}), "objective.pixel_weight=3, which is not in the space"),
        (with_first(params={"attention": "full"}), "trial 0 has attention=full, which is not in the space"),
        (with_first(run="../x"), "trials.0.run: "),
        (with_first(samples=-1), "trials.0.samples: "),
        ({"front": [5]}, "trial 5 of the front is not a finished trial"),
        ({"front": []}, "the winner 0 is not on the front"),
        ({"trials": [trial(0), trial(1, values=[2.0])]}, "trial 0 of the front is worse than another trial"),
        ({"importances": {"a": 1.0}}, "importances has 'a', which is not in the space"),
        ({"importances": {"attention": -1.0}}, "importances.attention: "),
        ({"more": 1}, "more: "),
    ],
)
def test_broken_searches_are_refused_in_one_sentence(change, message):
    values = search_of([trial(0)]) | change
    with pytest.raises(UsageError) as refused:
        search_from_json(values, "x")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_winner_must_be_the_best_in_the_first_metric():
    values = search_of([trial(0, values=[1.0, 9.0]), trial(1, values=[2.0, 8.0])], metrics=(LOSS, FLOPS))
    assert (values["front"], values["winner"]) == ([0, 1], 0)
    with pytest.raises(UsageError, match="the winner 1 is not the best of the front in content_loss"):
        parsed(values | {"winner": 1})


@pytest.mark.parametrize("content", [None, [], "x", 3, {}])
def test_other_json_is_refused(content):
    with pytest.raises(UsageError, match="x is not the record of a search"):
        search_from_json(content, "x")


def test_trials_without_a_value_need_none():
    values = search_of([trial(0, "failed", params={}, run=""), trial(1, "pruned", share=0.5)])
    assert values["winner"] is None
    assert parsed(values).winning is None
    assert isinstance(path_of(Path(), "a"), Path)
