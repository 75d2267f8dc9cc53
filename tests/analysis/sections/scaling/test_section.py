"""The section on a study's scaling law, from evidence that follows a known law."""

from dataclasses import replace

import numpy as np
import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.analysis.document.style import style
from aimv2.analysis.sections.scaling.section import law_of, scaling_runs, section
from tests.helpers.documents import by_row, number_of, tables, text_of
from tests.helpers.evidence import evidence_from
from tests.helpers.scaling import loss_of, scaling_evidence
from tests.helpers.specimen import STUDY as OTHER

STUDY = STUDIES["scaling"]
LAW = {"E": 0.35, "A": 2e3, "B": 320.0, "a": 0.75, "b": 0.65}


@pytest.fixture(autouse=True)
def styled():
    with style():
        yield


@pytest.fixture(scope="module")
def evidence():
    return scaling_evidence(STUDY, LAW, noise=0.005)


@pytest.fixture(scope="module")
def law(evidence):
    return law_of(STUDY, evidence, num_draws=20)


def section_of(evidence, law, withheld=()):
    return section(STUDY, evidence, law, withheld)


@pytest.mark.exhaustive
def test_the_law_of_the_runs_is_found_with_its_cost_and_agreement(evidence, law):
    found = section_of(evidence, law)
    parts = tables(found)
    rows = by_row(parts["scaling_parameters"])
    estimates = {name: float(row["estimate"][0]) for name, row in rows.items()}
    runs = scaling_runs(STUDY, evidence)
    np.testing.assert_allclose(loss_of(estimates, runs["n"], runs["d"]), loss_of(LAW, runs["n"], runs["d"]), rtol=0.01)
    assert "FLOPs = (2e+06 + 6 n) d, fitted to the FLOPs of the runs within 0.0 %" in parts["scaling_frontier"].caption
    agreement = parts["decision_accuracy"].rows
    assert [row[:3] for row in agreement] == [
        ["held-out loss of content words", f"{samples:,} samples", "81,920 samples"]
        for samples in (5_120, 10_240, 20_480, 40_960)
    ]
    assert all(number_of(row[3]) == 1 for row in agreement)
    meaning = "n is the number of encoder parameters; d is the number of samples."
    assert meaning in parts["scaling_parameters"].caption
    text = text_of(found)
    assert "Other parts of the model, such as the decoder, have 300,000 parameters." in text
    assert "the longest runs see each pair 2.3 times" in text


@pytest.mark.exhaustive
def test_failed_runs_are_told(evidence, law):
    missing = evidence_from([], [], missing=[("size_100_samples_025", 7, True)]).missing
    found = section_of(replace(evidence, missing=missing), law)
    assert "1 runs failed, so the others are a selection." in text_of(found)


def test_other_studies_have_no_law(evidence):
    assert section(OTHER, evidence, law_of(OTHER, evidence)) is None


def test_mixed_code_and_too_few_runs_have_a_reason_and_no_number(evidence):
    def told(evidence):
        return text_of(section_of(evidence, law_of(STUDY, evidence)))

    mixed = replace(evidence, runs=evidence.runs.assign(code=np.where(evidence.runs["seed"] == 0, "a", "b")))
    assert told(mixed) == "No law is fitted: the runs are of 2 codes."
    few = evidence.runs["arm"].isin(["size_100_samples_025", "size_050_samples_050"])
    reason = "E + A n^-a + B d^-b needs 3 values of n and the runs have 2; run others"
    assert told(replace(evidence, runs=evidence.runs[few])) == f"No law is fitted: {reason}."
    primary = evidence.metrics["metric"] == STUDY.primary_metric
    larger = evidence.metrics["arm"].str.startswith("size_200")
    worse = evidence.metrics["value"].where(~(primary & larger), 9 * evidence.metrics["value"])
    assert told(replace(evidence, metrics=evidence.metrics.assign(value=worse))).startswith(
        "No law is fitted: the loss rises with n, by "
    )
    assert told(evidence_from([], [])) == "No law is fitted: there are no runs."


@pytest.mark.exhaustive
def test_law_concludes_nothing_where_a_control_did_not_pass(evidence, law):
    text = text_of(section_of(evidence, law, ["null control failed in content_loss"]))
    assert text.startswith("The law describes these runs and concludes nothing: null control failed in content_loss.")
