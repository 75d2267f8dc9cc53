from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aimv2.analysis.evidence.run_files import load
from aimv2.analysis.evidence.tables import MISSING_COLUMNS
from aimv2.analysis.inference.ranges import NO_BRACKET
from aimv2.analysis.inference.relations import Word
from aimv2.analysis.judgement.compare import Differences, are_paired, primary_comparisons
from tests.helpers.evidence import evidence_of, write_run
from tests.helpers.specimen import STUDY


def test_pairing_detects_effects_that_the_seeds_would_hide(cells, evidence):
    comparisons = primary_comparisons(STUDY, cells, evidence)
    assert comparisons.keys() == {"fixed_25", "fixed_50", "fixed_75", "causal"}
    assert comparisons["fixed_75"].difference.excludes_zero
    assert comparisons["fixed_75"].difference.mean == pytest.approx(0.5, abs=0.02)
    assert not comparisons["fixed_25"].difference.excludes_zero
    assert evidence.values("content_loss").std().min() > 0.5, "the seeds differ by more than any arm"


def test_only_requested_arms_are_compared(cells, evidence):
    some = [cell for cell in cells if cell.arm in ("uniform", "causal", "null_control")]
    (comparison,) = primary_comparisons(STUDY, some, evidence).values()
    assert comparison.difference.level == pytest.approx(0.95)


def test_only_the_null_control_is_unpaired():
    assert are_paired("causal", "uniform")
    assert are_paired("positive_control", "uniform")
    assert are_paired("null_control", "null_control")
    assert not are_paired("null_control", "uniform")
    assert not are_paired("uniform", "null_control")


def test_expectation_is_judged_as_claims_are(cells):
    study = replace(STUDY, expected={"causal": "worse", "fixed_25": "equal", "fixed_50": "better"})
    effects = {"causal": 0.5, "fixed_25": 0.001, "fixed_50": 0.5}
    comparisons = primary_comparisons(study, cells, evidence_of(study, effects, spread=0.001))
    words = {arm: one.outcome and one.outcome.word for arm, one in comparisons.items()}
    assert words == {
        "causal": Word.SUPPORTED,
        "fixed_25": Word.SUPPORTED,
        "fixed_50": Word.CONTRADICTED,
        "fixed_75": None,
    }


def test_arm_with_a_failed_run_is_withheld_and_an_unfinished_one_is_not(cells):
    some = evidence_of(STUDY, {}, spread=0.01)
    missing = pd.DataFrame(
        [("causal", 4, "", "not finite", True), ("fixed_25", 4, "", "not run yet", False)], columns=MISSING_COLUMNS
    )
    comparisons = primary_comparisons(STUDY, cells, replace(some, missing=missing))
    assert comparisons["causal"].withheld == "1 of 5 runs of causal (prefix of 1 patch) failed"
    assert [arm for arm, one in comparisons.items() if one.withheld] == ["causal"]
    baseline = pd.DataFrame([("uniform", 4, "", "not finite", True)], columns=MISSING_COLUMNS)
    assert all(one.withheld for one in primary_comparisons(STUDY, cells, replace(some, missing=baseline)).values())


def test_controls_have_their_own_error(evidence):
    differences, values = Differences(STUDY, evidence), evidence.values("content_loss")
    positive = differences.separately("content_loss", "positive_control")
    assert positive.error == pytest.approx(stats.sem(values["positive_control"] - values["uniform"]))
    assert (positive.df, positive.error_from) == (3, "own")
    assert differences.separately("content_loss", "causal").df == 12, "five arms and four seeds"
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
    comparisons = primary_comparisons(STUDY, some, load(some, tmp_path))
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
