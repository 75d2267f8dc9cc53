from dataclasses import replace

from analysis.sections import setup
from tests.helpers.documents import by_row, judged_again, tables, text_of


def test_setup_counts_finished_runs_and_names_hardware_and_code(findings):
    rows = by_row(tables(setup.section(findings))["setup"])
    assert rows["runs"][""] == ("32 of 32 finished",)
    assert rows["hardware"][""] == ("a test; threads per run: 1; float32",)
    assert rows["software"][""] == ("torch 2; commit abc; code cccccccccccc",)


def test_setup_without_runs_knows_no_hardware(findings):
    evidence = replace(findings.evidence, runs=findings.evidence.runs.iloc[:0][["arm", "seed", "run"]])
    rows = by_row(tables(setup.section(judged_again(findings, evidence)))["setup"])
    assert rows["hardware"][""] == ("not recorded; threads per run: not recorded; float32",)


def test_licences_are_named(findings):
    assert "Images: " in text_of(setup.section(findings))
