from dataclasses import replace

import pytest

from ablations.catalogue import STUDIES
from analysis.sections.scaling.agreement import association_table, section
from tests.helpers.documents import by_row, tables
from tests.helpers.evidence import evidence_of
from tests.helpers.scaling import scaling_evidence
from tests.helpers.specimen import STUDY

LAW = {"E": 0.35, "A": 2e3, "B": 320.0, "a": 0.75, "b": 0.65}


def at(effects, rng=0):
    return evidence_of(STUDY, effects, spread=0.01, rng=rng)


def test_scales_that_rank_arms_alike_agree_and_others_do_not():
    arms = list(STUDY.arms)
    rising = {arm: float(place) for place, arm in enumerate(arms)}
    falling = {arm: -value for arm, value in rising.items()}
    found = section(STUDY, {"tiny": at(rising), "demo": at(rising, 1), "base": at(falling, 2)})
    rows = tables(found)["decision_accuracy"].rows
    pairs = len(arms) * (len(arms) - 1) // 2
    assert [row[:2] for row in rows] == [["tiny", "demo"], ["demo", "base"]]
    assert [row[2].value for row in rows] == [1, 0]
    assert rows[0][2].lines == ("1.00 [1.00, 1.00]", f"n = {pairs}")
    assert rows[1][4].value == pytest.approx(-1)


def test_one_scale_and_mixed_code_have_no_agreement():
    evidence = at({})
    assert section(STUDY, {"tiny": evidence}) is None
    codes = evidence.runs.assign(run=range(len(evidence.runs)))
    codes["code"] = ["a" if seed else "b" for seed in codes["seed"]]
    assert section(STUDY, {"tiny": replace(evidence, runs=codes), "demo": evidence}) is None


def test_accuracies_that_follow_the_loss_are_correlated():
    study = STUDIES["scaling"]
    table = association_table(study, scaling_evidence(study, LAW))
    (row,) = by_row(table).values()
    assert row["across arms: Pearson"] == ("-1.00 [-1.00, -1.00]", "n = 16")
    assert row["within: Spearman"][1] == "n = 48"


def test_a_study_without_accuracies_has_no_table():
    assert association_table(STUDY, at({})) is None
