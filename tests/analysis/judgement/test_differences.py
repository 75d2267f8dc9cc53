from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from aimv2.ablations.study import UNTRAINED
from aimv2.analysis.evidence.run_files import load
from aimv2.analysis.inference.contrasts import NO_BRACKET
from aimv2.analysis.judgement.differences import Differences
from aimv2.analysis.judgement.verdicts import primary_comparisons
from aimv2.analysis.judgement.withheld import Reasons
from tests.helpers.evidence import evidence_of, write_run
from tests.helpers.specimen import STUDY


def test_controls_have_their_own_error(evidence):
    differences, values = Differences(STUDY, evidence), evidence.values("content_loss")
    positive = differences.separately("content_loss", "positive_control")
    assert positive.error == pytest.approx(stats.sem(values["positive_control"] - values["uniform"]))
    assert (positive.df, positive.error_from) == (3, "own")
    assert differences.separately("content_loss", "causal").df == 3, "four seeds are too few for the error of all arms"
    null = differences.separately("content_loss", "null_control")
    interval = stats.ttest_ind(values["null_control"], values["uniform"], equal_var=False).confidence_interval()
    assert (null.low, null.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize(("arm", "than_arm"), [("causal", "uniform"), ("causal", "causal"), ("untrained", "untrained")])
def test_difference_between_metrics_is_paired_by_seed(evidence, arm, than_arm):
    found = Differences(STUDY, evidence).of(arm, "content_loss", than_arm, "pixel_loss_0.5")
    paired = evidence.value("content_loss", arm) - evidence.value("pixel_loss_0.5", than_arm)
    assert (found.mean, found.error, found.df) == pytest.approx((paired.mean(), stats.sem(paired), 3))
    assert found.error_from == "own"


def test_interval_covers_items_where_every_run_has_them(cells, tmp_path):
    """An item that all seeds of the arm find hard makes the difference less certain, in the deciding metric only."""
    rng, some = np.random.default_rng(0), [cell for cell in cells if cell.arm in ("uniform", "causal", "fixed_25")]
    hard = rng.normal(0, 2, 50)
    for cell in some:
        loss = 3 + rng.normal(0, 0.1, 50) + (hard if cell.arm == "causal" else 0)
        items = [("content_loss", item, 2 * value, 2.0) for item, value in enumerate(loss)]
        write_run(cell, tmp_path, loss.mean(), items=items if cell.arm != "fixed_25" or cell.seed < 3 else None)
    comparisons = primary_comparisons(Reasons(STUDY, load(some, tmp_path)), some)
    causal, fixed = comparisons["causal"].difference, comparisons["fixed_25"].difference
    assert (causal.covers, fixed.covers) == ("seeds and items", "seeds")
    assert causal.error == pytest.approx(hard.std(ddof=1) / np.sqrt(50), rel=0.05)
    differences = Differences(STUDY, load(some, tmp_path))
    alone = differences.separately("content_loss", "causal")
    assert alone.covers == "seeds"
    assert alone.error < causal.error / 5
    same = differences.combination("content_loss", {"causal": 1.0, "uniform": -1.0}, 0.9)
    of_two = differences.of("causal", "content_loss", "uniform", "content_loss", 0.9)
    assert same.covers == "seeds and items"
    assert (same.low, same.high) == pytest.approx((of_two.low, of_two.high))
    lacking = differences.combination("content_loss", {"fixed_25": 0.5, "causal": 0.5, "uniform": -1.0})
    assert lacking.covers == "seeds"


def test_ranges_of_arms_without_runs_have_no_bounds():
    study = replace(STUDY, controls=())
    evidence = evidence_of(study, {}, spread=0.1)
    lacking = replace(evidence, metrics=evidence.metrics[evidence.metrics["arm"] != "causal"])
    ladders = (("uniform", "fixed_25"), ("uniform", "causal"))
    assert Differences(study, evidence).ranges("content_loss", *ladders).has_interval
    assert Differences(study, lacking).ranges("content_loss", *ladders) is NO_BRACKET


def test_wall_time_stands_in_for_cpu_time_that_was_not_measured(findings):
    runs = findings.evidence.runs.assign(train_cpu_seconds=np.nan)
    runs.loc[runs["arm"] == "causal", "train_seconds"] *= 3
    assert Differences(STUDY, replace(findings.evidence, runs=runs)).relative_cost(
        "causal", "seconds"
    ) == pytest.approx(3)
    assert np.isnan(Differences(STUDY, findings.evidence).relative_cost(UNTRAINED, "samples"))
    without = replace(findings.evidence, runs=runs[["arm", "seed"]])
    assert np.isnan(Differences(STUDY, without).relative_cost("causal", "flops"))
