from dataclasses import replace

import pandas as pd

from aimv2.analysis.evidence.tables import MISSING_COLUMNS
from aimv2.analysis.judgement.convergence import Curves
from aimv2.analysis.sections import convergence
from aimv2.analysis.sections.study import document
from tests.helpers.documents import by_row, judged_again, tables, text_of
from tests.helpers.specimen import STUDY

CAUSAL, BASELINE = "causal (prefix of 1 patch)", "uniform on 1..I-1"
HALF, ALL = (f"samples to the baseline's loss at {share} % of its budget" for share in (50, 100))
LEAD = "lead at 100 % [samples]"


def rows_of(findings):
    return by_row(tables(convergence.section(findings))["convergence_samples"])


def test_table_gives_restricted_means_reached_seeds_and_leads(findings):
    rows, curves = rows_of(findings), Curves(STUDY, findings.evidence)
    assert list(rows) == [STUDY.label(arm) for arm in STUDY.conditions]
    found = curves.convergence("causal", "samples", 1.0)
    assert rows[CAUSAL][ALL] == (found.reached.estimate.text(",.0f"), "4 of 4 seeds")
    assert rows[CAUSAL][LEAD] == (found.lead.text("+,.0f"),)
    assert rows["fixed at 75 %"][ALL] == ("> 16", "0 of 4 seeds")
    assert rows[BASELINE][HALF] == ("8 (no interval)", "4 of 4 seeds")
    assert rows[BASELINE][LEAD] == ("baseline",)
    assert rows["the baseline with other seeds"][LEAD] == ("other seeds",)
    assert rows["the baseline with other seeds"][HALF][0].startswith("≥ "), "some of its seeds do not get there"


def test_arms_with_other_tasks_are_not_compared(findings):
    other = replace(findings, study=replace(findings.study, compares_curves=False))
    assert convergence.section(other) is None
    captions = {figure.name: figure.caption for figure in document(other, {}).figures()}
    assert "not comparable in this loss" in captions["learning_curves"]


def test_other_costs_are_folded(findings):
    section = convergence.section(findings)
    assert set(tables(section)) == {"convergence_samples", "convergence_flops", "convergence_seconds"}
    assert section.blocks[-1].title == "FLOPs and CPU time"
    runs = findings.evidence.runs.assign(train_cpu_seconds=None)
    section = convergence.section(judged_again(findings, replace(findings.evidence, runs=runs)))
    assert set(tables(section)) == {"convergence_samples", "convergence_flops"}
    assert "CPU time is not compared" in text_of(section)


def test_what_limits_an_arm_stands_in_its_row(findings):
    missing = pd.DataFrame([("causal", 4, "", "still running", False)], columns=MISSING_COLUMNS)
    rows = rows_of(judged_again(findings, replace(findings.evidence, missing=missing)))
    assert rows[CAUSAL]["limits"] == ("1 of 5 seeds missing",)
    assert rows[BASELINE]["limits"] == ("",)
    assert "limits" not in rows_of(findings)[CAUSAL]


def test_arm_with_a_failed_run_is_withheld(findings):
    missing = pd.DataFrame([("causal", 4, "", "not finite", True)], columns=MISSING_COLUMNS)
    found = judged_again(findings, replace(findings.evidence, missing=missing))
    assert {rows_of(found)[CAUSAL][column] for column in (HALF, ALL, LEAD)} == {("withheld: a run failed",)}


def test_study_without_a_curve_of_a_loss_has_no_section(findings):
    evidence = replace(findings.evidence, curves=pd.DataFrame())
    assert convergence.section(judged_again(findings, evidence)) is None
