"""What ran: the costs of arms, the setup, the realised mixture, the credits of sources, and the runs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aimv2.ablations.study import UNTRAINED
from aimv2.analysis.document.pages import to_markdown
from aimv2.analysis.evidence.run_files import load
from aimv2.analysis.evidence.tables import BILL_COLUMNS, MISSING_COLUMNS
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.findings import judge
from aimv2.analysis.sections.runs import cost_section, mixture_table, runs_section
from aimv2.analysis.sections.study import document
from aimv2.config.program import replaced
from tests.helpers.documents import by_row, changed, judged_again, tables, text_of
from tests.helpers.evidence import write_run
from tests.helpers.specimen import STUDY


def test_missing_runs_are_listed_with_their_reason_escaped(findings):
    missing = pd.DataFrame([("causal", 4, "v2-0", "loss | <b>", True)], columns=MISSING_COLUMNS)
    section = runs_section(judged_again(findings, replace(findings.evidence, missing=missing)))
    assert tables(section)["missing"].rows == [["causal", "4", "v2-0", r"loss \| \<b\>"]]
    assert "No run is missing" not in text_of(section)


CAUSAL = "causal (prefix of 1 patch)"


@pytest.mark.parametrize(("equal", "marked"), [("samples", []), ("flops", [CAUSAL]), ("seconds", ["fixed at 25 %"])])
def test_an_arm_that_misses_what_the_study_holds_equal_is_marked(findings, equal, marked):
    """One arm has half more FLOPs, another half more CPU seconds; all have their samples."""
    runs = findings.evidence.runs.copy()
    runs.loc[runs["arm"] == "causal", "train_flops"] *= 1.5
    runs.loc[runs["arm"] == "fixed_25", "train_cpu_seconds"] *= 1.5
    runs.loc[runs["arm"] == "fixed_75", "train_seconds"] *= 1.5  # the machine was busy
    evidence = replace(findings.evidence, runs=runs)
    section = cost_section(judged_again(findings, evidence, study=replace(STUDY, equal=equal)))
    rows = by_row(tables(section)["cost"])
    assert [arm for arm, row in rows.items() if any("unequal" in line for lines in row.values() for line in lines)] == (
        marked
    )
    assert rows[CAUSAL]["FLOPs relative to baseline"][0].startswith("1.50 x")
    assert rows["all"]["runs"] == ("32",)


def cost_of_fixed_25(findings, runs):
    section = cost_section(judged_again(findings, replace(findings.evidence, runs=runs)))
    return by_row(tables(section)["cost"])["fixed at 25 %"]


def test_wall_time_is_compared_where_cpu_time_does_not_measure_the_work(findings):
    runs = findings.evidence.runs.copy()
    runs.loc[runs["arm"] == "fixed_25", "train_seconds"] *= 1.5
    runs["train_cpu_seconds"] = np.nan
    row = cost_of_fixed_25(findings, runs)
    assert row["training time relative to baseline"] == ("1.50 x",)
    assert row["CPU minutes of training steps"] == ("not measured",)


def test_a_ratio_of_times_has_an_interval_over_seeds(findings):
    runs = findings.evidence.runs.copy()
    factors = np.array([1.1, 1.3, 1.2, 1.4])
    runs.loc[runs["arm"] == "fixed_25", "train_cpu_seconds"] *= factors
    low, high = np.exp(stats.ttest_1samp(np.log(factors), 0).confidence_interval(0.95))
    shown = f"{stats.gmean(factors):.2f} x [{low:.2f}, {high:.2f}]"
    assert cost_of_fixed_25(findings, runs)["training time relative to baseline"] == (shown,)


def shown(samples, size, dense=0, **bad):
    """Return a source of a run's record."""
    reasons = {reason.replace("_", " "): count for reason, count in bad.items()}
    return {"samples": samples, "short": samples - dense, "dense": dense, "epochs": samples / size, "bad": reasons}


@pytest.fixture
def evidence_with(cells, tmp_path):
    """Write the runs of two seeds, and return their evidence."""

    def write(mixture_of):
        some = [cell for cell in cells if cell.seed < 2]
        for cell in some:
            write_run(cell, tmp_path, 3.0 + 0.01 * cell.seed, mixture=mixture_of(cell))
        return some, load(some, tmp_path)

    return write


def test_equal_arms_share_their_rows(evidence_with):
    _, evidence = evidence_with(
        lambda cell: {
            "cc_3m": shown(300, 200, dense=99, missing_image=2 * cell.seed, empty_caption=1),
            "coyo": shown(100, 50),
        }
    )
    table = mixture_table(STUDY, evidence)
    num_runs = 2 * len(STUDY.conditions)
    assert len(evidence.mixture) == 2 * num_runs
    assert UNTRAINED not in set(evidence.mixture["arm"]), "it has seen nothing"
    assert table.rows == [
        ["all", r"cc\_3m", "300", "1.5", "33 %", "missing image: 2; empty caption: 2"],
        ["", "coyo", "100", "2", "0 %", "none"],
    ]


@pytest.mark.exhaustive
def test_report_credits_what_the_records_say(evidence_with, request_of, tmp_path):
    some, evidence = evidence_with(lambda cell: None)
    path = str(tmp_path / "birds.yaml")
    cells = [replace(cell, config=replaced(cell.config, {"data.sources": (path,)})) for cell in some]
    recorded = replace(evidence, credits={"sources": ["birds (CC0)"], "sets": []})
    pages = []
    for content in (None, "licence: another"):
        if content:
            Path(path).write_text(content)
        found = judge(replace(request_of, cells=cells), recorded, Look(1, 16), {})
        pages.append(to_markdown(document(found, {})))
    assert pages[0].count("Images: birds (CC0).") == 1
    assert pages[0] == pages[1]


def test_bill_has_all_attempts_by_their_outcome(findings):
    rows = [
        ("a", "result", "NVIDIA H100", 3, 7200.0, 8.0, 0.0),
        ("a", "failed", "NVIDIA H100", 1, 1800.0, 2.0, 0.0),
        ("b", "superseded", "NVIDIA H100", 2, 3600.0, 4.0, 0.0),
    ]

    def blocks(rows):
        evidence = replace(findings.evidence, bill=pd.DataFrame(rows, columns=BILL_COLUMNS))
        return cost_section(changed(findings, evidence=evidence)).blocks

    assert blocks(rows)[-1].rows == [
        ["with a result", "3", "2", "8", "0"],
        ["failed", "1", "0.5", "2", "0"],
        ["superseded", "2", "1", "4", "0"],
        ["all", "6", "3.5", "14", "0"],
    ]
    assert len(blocks([])) == 2, "records of before there was a bill have none"
