import re
from dataclasses import replace

import pandas as pd
import pytest

from analysis.evidence.load import MISSING_COLUMNS
from analysis.sections import metrics
from tests.helpers.documents import by_row, judged_again, tables, text_of

CAUSAL = "causal (prefix of 1 patch)"


def rows_of(findings):
    return by_row(tables(metrics.section(findings))["metrics"])


def test_metric_that_is_not_applicable_is_never_a_number(findings):
    rows = rows_of(findings)
    assert rows["held-out caption bits"][CAUSAL] == ("not applicable",)
    assert rows["held-out caption bits"]["uniform on 1..I-1"] == ("1.500 (no interval)",)
    assert not any("recall" in name for name in rows), "a metric of no arm has no row"


def test_difference_of_an_arm_with_a_failed_run_is_withheld(findings):
    missing = pd.DataFrame([("causal", 4, "", "not finite", True)], columns=MISSING_COLUMNS)
    rows = rows_of(judged_again(findings, replace(findings.evidence, missing=missing)))
    assert next(iter(rows.values()))[CAUSAL][1] == "Δ withheld: a run failed"


def test_detected_differences_are_listed_as_exploratory(findings):
    text = text_of(metrics.section(findings)).replace("\\", "")
    assert "They are exploratory" in text
    shown = re.search(r"causal_content_loss: fixed at 75 % is above the baseline by ([\d.]+) nats/token", text)
    assert float(shown[1]) == pytest.approx(0.5, abs=0.02)
