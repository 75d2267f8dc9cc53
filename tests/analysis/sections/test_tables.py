from dataclasses import replace

import pandas as pd

from aimv2.analysis.evidence.tables import MISSING_COLUMNS
from aimv2.analysis.sections.tables import arm_table, in_seeds, seeds_per_arm, seen
from tests.helpers.documents import judged_again


def test_what_runs_recorded_is_named_once_and_is_no_markup(evidence):
    runs = evidence.runs.iloc[:4].assign(hardware=["a_b", "![x](/etc/hostname)", "a_b", ""], pairs=1000)
    recorded = replace(evidence, runs=runs)
    assert seen(recorded, "hardware") == r"a\_b, !\[x\](/etc/hostname), not recorded"
    assert seen(recorded, "pairs") == "1,000"
    assert seen(recorded, "colour") == "not recorded"
    assert seen(replace(evidence, runs=runs.iloc[:0]), "hardware") == "not recorded"


def test_seeds_are_counted_by_arm(evidence):
    runs = evidence.runs
    assert seeds_per_arm(evidence) == (4, 4)
    assert seeds_per_arm(replace(evidence, runs=runs[(runs["arm"] != "causal") | (runs["seed"] < 2)])) == (2, 4)
    assert seeds_per_arm(replace(evidence, runs=runs[runs["seed"] == 3])) == (1, 1)
    assert seeds_per_arm(replace(evidence, runs=runs.iloc[:0])) == (0, 0)
    assert [in_seeds(*one) for one in ((1, 1), (4, 4), (1, 4))] == ["1 seed", "4 seeds", "1 to 4 seeds"]


def test_limits_are_a_column_only_if_something_is_limited(findings):
    def table(findings):
        return arm_table(findings, "some", ["causal", "fixed_25"], {"name": lambda arm: arm})

    assert table(findings).columns == ["arm", "name"]
    missing = pd.DataFrame([("causal", 4, "", "still running", False)], columns=MISSING_COLUMNS)
    limited = table(judged_again(findings, replace(findings.evidence, missing=missing)))
    assert limited.columns == ["arm", "name", "limits"]
    assert [row[1:] for row in limited.rows] == [["causal", "1 of 5 seeds missing"], ["fixed_25", ""]]
