"""Cards of a study's arms: means and intervals against SciPy, verdicts and what withholds them."""

from dataclasses import replace

import numpy as np
import pytest
from huggingface_hub import DatasetCard
from scipy import stats

from aimv2.analysis.sections.card import card, dataset_card, verdict_lines
from aimv2.base.errors import UsageError
from tests.helpers.documents import judged_again
from tests.helpers.evidence import evidence_from
from tests.helpers.specimen import STUDY


def rows_of(text):
    """Return the rows of the table of metrics by name."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {name.replace("\\", ""): rest for name, *rest in lines[2:]}


def test_intervals_are_those_of_student(findings):
    values = findings.evidence.value("content_loss", "causal").to_numpy()
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    value, unit, _ = rows_of(card(findings, "causal"))["content_loss"]
    assert value.startswith(f"{np.mean(values):.4g} [{low:.4g}, {high:.4g}], n = 4; Δ -")
    assert unit == "nats/token"


def test_metric_that_an_arm_lacks_is_left_out(findings):
    assert "caption_bits" in rows_of(card(findings, "uniform"))
    assert "caption_bits" not in rows_of(card(findings, "causal"))


def test_baseline_has_no_difference(findings):
    text = card(findings, "uniform")
    assert "Δ" not in text
    assert "This arm is the baseline" in text


def test_every_verdict_is_there(findings):
    text = card(findings, "causal")
    for name, verdict in findings.verdicts.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"- {name}: ")]
        assert f"**{verdict.word}**" in line
    runs = findings.evidence.runs
    for name in runs.loc[runs["arm"] == "causal", "run"]:
        assert f"`{name}`" in text
    assert "seeds 0, 1, 2, 3." in text


def test_differences_are_withheld_after_a_failure(findings):
    evidence = findings.evidence
    kept = {
        name: table[(table["arm"] != "causal") | (table["seed"] != 0)]
        for name, table in (("runs", evidence.runs), ("metrics", evidence.metrics))
    }
    failed = replace(evidence, missing=evidence_from([], [], [("causal", 0, True)]).missing, **kept)
    text = card(judged_again(findings, failed), "causal")
    assert "Differences from the baseline are withheld: 1 of 4 runs of causal (prefix of 1 patch) failed" in text
    assert "Δ" not in text
    assert "n = 3" in rows_of(text)["content_loss"][0]
    assert "seeds 1, 2, 3." in text


def test_one_run_has_no_interval(findings):
    evidence = findings.evidence
    one = replace(
        evidence,
        runs=evidence.runs[evidence.runs["seed"] == 0],
        metrics=evidence.metrics[evidence.metrics["seed"] == 0],
    )
    text = card(judged_again(findings, one), "causal")
    assert "(n = 1), so there are no intervals" in text
    assert "[" not in rows_of(text)["content_loss"][0]


def test_unknown_arm_is_refused(findings):
    with pytest.raises(UsageError, match=r"unknown arm with finished runs 'casual'\. Did you mean 'causal'"):
        card(findings, "casual")
    with pytest.raises(UsageError, match="unknown arm"):
        card(judged_again(findings, evidence_from([], []), study=STUDY), "causal")


def test_metadata_are_those_that_the_hub_reads(findings):
    data = DatasetCard(dataset_card(findings, "CC-BY-4.0")).data.to_dict()
    assert data["license"] == "cc-by-4.0"
    assert data["configs"] == [{"config_name": "default", "data_files": "records.parquet"}]
    open_choice = DatasetCard(dataset_card(findings)).data.to_dict()
    assert (open_choice["license"], open_choice["license_name"]) == ("other", "not-chosen-yet")


def test_card_has_verdicts_licences_runs_and_cost(findings):
    text = dataset_card(findings)
    assert STUDY.question in text.replace("\\", "")
    for line in verdict_lines(findings):
        assert f"- {line}\n" in text
    for line in findings.evidence.credits["sources"]:
        assert f"- {line}\n" in text
    number = len(findings.evidence.runs)
    assert f"a row for each of {number} runs, {number} of them finished" in text
    assert f"{100 * number:.3g} training FLOPs" in text
    assert "4 runs, seeds 0, 1, 2, 3" in text
