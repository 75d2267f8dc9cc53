from dataclasses import replace

import pandas as pd
import pytest

from aimv2.analysis.evidence.tables import MISSING_COLUMNS
from aimv2.analysis.inference.intervals import detectable_difference
from aimv2.analysis.sections import primary
from tests.helpers.documents import by_row, judged_again, number_of, tables, text_of
from tests.helpers.evidence import evidence_by_class, evidence_of
from tests.helpers.specimen import STUDY

SHARES = (("object", "25.0"), ("ink", "25.0"), ("place", "30.0"))
CAUSAL = "causal (prefix of 1 patch)"
SIMULTANEOUS, DETECTABLE = "simultaneous interval", "minimum detectable difference (80 % power)"
DIFFERENCE = "difference from baseline [95 % interval]"


def rows_of(findings):
    return by_row(tables(primary.section(findings))["primary"])


def test_table_gives_expectation_observation_difference_and_power(findings):
    rows = rows_of(findings)
    shown = {label: (*row["expected"], *row["observed"]) for label, row in rows.items()}
    assert shown["uniform on 1..I-1"] == ("", "")
    assert rows["uniform on 1..I-1"][DIFFERENCE] == ("baseline",)
    assert shown["fixed at 75 %"] == ("open", "worse")
    assert shown["fixed at 25 %"] == ("open", "inconclusive")
    assert shown[CAUSAL] == ("worse", "better", "contradicted")
    assert shown["the baseline with other seeds"] == ("no difference", "passed")
    assert float(rows["fixed at 75 %"][DIFFERENCE][0].split()[0]) == pytest.approx(0.5, abs=0.02)
    estimate = findings.comparisons["fixed_75"].difference
    assert rows["fixed at 75 %"][SIMULTANEOUS][0] == estimate.bounds("+.4f")
    assert rows["fixed at 75 %"][SIMULTANEOUS][1] == "97.5 %, n = 4, pooled error, covers seeds"
    assert float(rows["fixed at 75 %"][DETECTABLE][0]) == pytest.approx(detectable_difference(estimate), abs=1e-4)
    assert "untrained" not in rows


def test_each_number_has_its_value(findings):
    table = tables(primary.section(findings))["primary"]
    row = next(row for row in table.rows if row[0] == CAUSAL)
    assert number_of(row[3]) == round(findings.evidence.value("content_loss", "causal").mean(), 4)
    assert number_of(row[4]) == round(findings.comparisons["causal"].difference.mean, 4)


def test_classes_of_words_stand_where_the_difference_stands(findings):
    tokens = {"object": 500, "ink": 500, "place": 600, "count": 400}
    some = evidence_by_class(
        STUDY, {("fixed_50", "content_loss_place"): 0.6, "positive_control": 1}, tokens, spread=0.01
    )
    again = judged_again(findings, some)
    assert rows_of(again)["fixed at 50 %"][DIFFERENCE][1].endswith(" % of it place words")
    table = tables(primary.section(again))["classes"]
    assert table.columns[2:5] == [f"{name} words ({share} % of the tokens)" for name, share in SHARES]
    row = next(row for row in table.rows if row[0] == "fixed at 50 %")
    assert sum(map(number_of, row[2:6])) == pytest.approx(float(row[1]), abs=3e-4)
    assert row[6].endswith("without place words")
    (told,) = [one for one in again.verdicts["prefix-beats-causal"].evidence if "fixed at 50 %" in one]
    assert " % of it place words (" in told
    assert "classes" not in tables(primary.section(findings)), "the runs have no classes"


def test_no_expectation_is_judged_unless_controls_passed(findings):
    evidence = evidence_of(STUDY, {"causal": -0.4, "positive_control": 0.0}, spread=0.01)
    rows = rows_of(judged_again(findings, evidence))
    assert rows[CAUSAL]["observed"] == ("better", "not judged: a control did not pass")
    assert rows[STUDY.label("positive_control")]["observed"] == ("inconclusive",)


def test_arm_with_a_failed_run_is_not_judged(findings):
    missing = pd.DataFrame([("causal", 4, "", "not finite", True)], columns=MISSING_COLUMNS)
    rows = rows_of(judged_again(findings, replace(findings.evidence, missing=missing)))
    assert rows[CAUSAL]["observed"] == ("not judged", f"1 of 5 runs of {CAUSAL} failed")
    assert rows[CAUSAL][DIFFERENCE] == ("withheld: a run failed",)
    assert rows[CAUSAL][SIMULTANEOUS] == rows[CAUSAL][DETECTABLE] == ("",)


def test_text_names_metric_margin_sensitivity_and_look(findings):
    text = text_of(primary.section(findings))
    assert "The primary metric is content_loss in nats/token; lower is better." in text
    assert "The equivalence margin is 0.02. Sensitivity: content_loss sees all rungs." in text
    assert "This is look 1 at the study" in text
    assert "hold for all arms together at 97.5 % (Dunnett)" in text
    unknown = text_of(primary.section(judged_again(findings, findings.evidence, seen={})))
    assert "The equivalence margin is 0.02. Sensitivity: not measured on this base run." in unknown
