import numpy as np
import pytest
from rich.console import Console

from aimv2.tools.evaluate import results
from aimv2.tools.evaluate.results import Estimate, Result, print_results


@pytest.mark.parametrize(("num_right", "num"), [(0, 10), (7, 10), (10, 10), (43_000, 50_000)])
def test_share_has_wilsons_interval(num_right, num):
    value, low, high = results.share(np.arange(num) < num_right)
    assert value == num_right / num
    z = 1.959963984540054
    for bound in (low, high):  # Wilson's bounds solve this equation
        assert (value - bound) ** 2 == pytest.approx(z**2 * bound * (1 - bound) / num, abs=1e-9)
    assert low <= value <= high


def test_mean_per_class_is_that_of_the_obvious_loop():
    generator = np.random.default_rng(0)
    class_N = generator.choice([3, 5, 9], size=120, p=[0.6, 0.3, 0.1])
    is_right_N = generator.random(120) < np.where(class_N == 3, 0.9, 0.4)
    found = results.mean_per_class(is_right_N, class_N)
    own = [is_right_N[class_N == label] for label in (3, 5, 9)]
    assert found.value == pytest.approx(np.mean([part.mean() for part in own]))
    resampled = [np.mean([generator.choice(part, len(part)).mean() for part in own]) for _ in range(4000)]
    assert found[1:] == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.015)


def test_a_row_shows_result_interval_and_settings():
    console = Console(record=True, width=160)
    result = Result(
        name="probe",
        estimate=Estimate(0.87654, 0.85, 0.9),
        how="how it was done",
        settings={"learning_rate": 1e-3},
        warning="a doubt",
    )
    print_results([result, Result(name="knn", estimate=Estimate(0.5, 0.4, 0.6), how="another way")], "title", console)
    shown = console.export_text()
    for text in ("87.65 %", "85.00 to 90.00", "learning_rate 0.001", "how it was done", "another way"):
        assert text in shown
    assert "warning: probe: a doubt" in shown
