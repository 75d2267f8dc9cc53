from dataclasses import replace

import pandas as pd

from ablations.study import UNTRAINED
from analysis.document.model import Section, walk
from analysis.sections.study import document
from tests.helpers.documents import judged_again


def test_report_has_its_sections_in_the_order_of_reading(findings):
    titles = [section.title for section in document(findings, {}).sections]
    assert titles[:2] == ["Claims of the paper", "Held-out loss of content words"]
    assert titles[-1] == "Runs"
    assert {"All metrics", "Controls", "Cost", "Setup"} <= set(titles)


def test_conclusion_command_and_figures_come_first(findings):
    report = document(findings, {"more.txt": b"more"})
    assert report.title == "prefix_ratio_test"
    assert report.lead.name == "differences"
    command = "`python sweeps/launch.py sweep=prefix_ratio 'sweep.arms=[uniform,causal]'`"
    assert command in report.introduction[0].text
    assert {"results.csv", "more.txt"} <= set(report.files)
    assert {figure.name for figure in report.figures()} >= {"differences", "learning_curves", "pixel_loss", "accuracy"}


def test_names_of_tables_and_figures_are_unique(findings):
    blocks = [block for block in walk(document(findings, {}).sections) if not isinstance(block, Section)]
    names = [block.name for block in blocks if getattr(block, "name", "")]
    assert len(names) == len(set(names))


def test_a_study_of_which_only_the_untrained_encoder_is_done_has_a_report(findings):
    metrics, runs = findings.evidence.metrics, findings.evidence.runs
    only = {"metrics": metrics[metrics["arm"] == UNTRAINED], "runs": runs[runs["arm"] == UNTRAINED]}
    evidence = replace(findings.evidence, **only, curves=pd.DataFrame())
    report = document(judged_again(findings, evidence), {})
    assert "No conclusion" in report.conclusion
    assert report.figures() == []
