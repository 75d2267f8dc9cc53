"""The card of a study's archive, read by the parser of the hub."""

from huggingface_hub import DatasetCard

from aimv2.analysis.sections.card import dataset_card, verdict_lines
from tests.helpers.specimen import STUDY


def test_metadata_are_those_that_the_hub_reads(findings):
    data = DatasetCard(dataset_card(findings, "CC-BY-4.0")).data.to_dict()
    assert data["license"] == "cc-by-4.0"
    assert data["configs"] == [{"config_name": "default", "data_files": f"{findings.request.folder}/records.parquet"}]
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


def test_every_verdict_is_there_with_its_scale(findings):
    lines = verdict_lines(findings)
    for name, verdict in findings.verdicts.items():
        (line,) = [line for line in lines if line.startswith(f"{name}: ")]
        assert f" At scale {findings.config.label}: **{verdict.word}**" in line
