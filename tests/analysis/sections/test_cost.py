from dataclasses import replace

import numpy as np
import pytest

from analysis.sections import cost
from tests.helpers.documents import by_row, judged_again, tables
from tests.helpers.specimen import STUDY

CAUSAL = "causal (prefix of 1 patch)"


@pytest.mark.parametrize(
    ("equal", "marked"),
    [("samples", []), ("flops", [CAUSAL]), ("seconds", ["fixed at 25 %"])],
)
def test_an_arm_that_misses_what_the_study_holds_equal_is_marked(findings, equal, marked):
    """One arm has half more FLOPs, another half more CPU seconds; all have their samples."""
    runs = findings.evidence.runs.copy()
    runs.loc[runs["arm"] == "causal", "train_flops"] *= 1.5
    runs.loc[runs["arm"] == "fixed_25", "train_cpu_seconds"] *= 1.5
    runs.loc[runs["arm"] == "fixed_75", "train_seconds"] *= 1.5  # the machine was busy
    evidence = replace(findings.evidence, runs=runs)
    section = cost.section(judged_again(findings, evidence, study=replace(STUDY, equal=equal)))
    rows = by_row(tables(section)["cost"])
    assert [arm for arm, row in rows.items() if any("unequal" in line for lines in row.values() for line in lines)] == (
        marked
    )
    assert rows[CAUSAL]["FLOPs relative to baseline"][0].startswith("1.50 x")
    assert rows["all"]["runs"] == ("32",)


def test_wall_time_is_compared_where_cpu_time_does_not_measure_the_work(findings):
    runs = findings.evidence.runs.copy()
    runs.loc[runs["arm"] == "fixed_25", "train_seconds"] *= 1.5
    runs["train_cpu_seconds"] = np.nan
    rows = by_row(tables(cost.section(judged_again(findings, replace(findings.evidence, runs=runs))))["cost"])
    assert rows["fixed at 25 %"]["training time relative to baseline"] == ("1.50 x",)
    assert rows["fixed at 25 %"]["CPU minutes of training steps"] == ("not measured",)
