import re
from dataclasses import replace

import pandas as pd
import pytest

from aimv2.ablations.study import UNTRAINED
from aimv2.analysis.document.model import Section, Table, walk
from aimv2.analysis.document.pages import to_json, to_markdown
from aimv2.analysis.evidence.run_files import load
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.findings import judge
from aimv2.analysis.sections.study import document
from tests.helpers.documents import judged_again
from tests.helpers.evidence import sensitive
from tests.helpers.searches import (
    parsed,
    request_of_search,
    typical,
    without_a_finished_trial,
    won_by_the_baseline,
    write_confirmation,
)


@pytest.fixture(scope="module")
def report(findings):
    return document(findings, {"more.txt": b"more"})


def test_report_has_its_sections_in_the_order_of_reading(report):
    assert "search" not in report.numbers
    short = ["Claims of the paper", "Arms", "Controls", "What was not seen", "How it was run"]
    assert [section.title for section in report.sections] == short
    titles = [section.title for section in report.details]
    assert titles[:3] == ["The comparisons in words", "Claims in full", "Held-out loss of content words"]
    assert titles[-1] == "Runs"
    assert {"All metrics", "Controls in full", "Cost", "Setup"} <= set(titles)


def test_report_of_a_search_leads_with_its_confirmation(tiny, tmp_path):
    request = request_of_search(tiny)
    write_confirmation(request, tmp_path)
    found = judge(request, load(request.cells, tmp_path), Look(1), sensitive("content_loss"), parsed(typical()))
    report = document(found, {})
    titles = [section.title for section in report.details]
    assert titles[:3] == ["The comparisons in words", "Held-out loss of content words", "Search"]
    assert not {"Claims in full", "Controls in full"} & set(titles)
    assert report.answer.startswith("Confirmed on fresh seeds: the winner is better by ")
    assert "prefix_ratio_search_test" in report.subtitle
    assert report.lead.name == "differences"
    assert "control" not in report.lead.caption
    assert report.numbers["search"]["result"] == "confirmed"
    assert report.numbers["search"]["confirmation"]["n"] == 4
    assert "Confirmed: on 4 fresh seeds *trial 3" in to_markdown(report)
    for written in (to_markdown(report), to_json(report)):
        assert "Confirmed on fresh seeds" in written


def test_question_answer_and_figure_come_first(report, findings):
    assert report.title == findings.study.question
    assert "prefix_ratio_test" in report.subtitle
    assert report.lead.name == "differences"
    assert "`python sweeps/launch.py sweep=prefix_ratio 'sweep.arms=[uniform,causal]'`" in to_markdown(report)
    assert [(chip.name, chip.verdict) for chip in report.chips] == [
        (name, verdict.word) for name, verdict in findings.verdicts.items()
    ], "none is changed by a part"
    assert "more.txt" in report.files
    assert "results.csv" in report.exports
    assert {figure.name for figure in report.figures()} >= {"differences", "learning_curves"}


def test_the_subtitle_says_what_changes_the_base_run(findings):
    unchanging = ["sweep=prefix_ratio", "scale=test", "sweep.seeds=4", "loader.num_workers=4", "device=cpu"]
    words = [*unchanging, "start.weights=runs/v2-1", "data.dense_fraction=0.33"]
    changed = document(replace(findings, request=replace(findings.request, arguments=words)), {})
    assert changed.subtitle.endswith("4 seeds · `start.weights=runs/v2-1 data.dense_fraction=0.33`")


@pytest.mark.parametrize(("equal", "told"), [("samples", ""), ("flops", " · arms at equal FLOPs")])
def test_the_subtitle_says_what_arms_have_in_common_besides_samples(findings, equal, told):
    judged = judged_again(findings, findings.evidence, study=replace(findings.study, equal=equal))
    assert document(judged, {}).subtitle.endswith(f"4 seeds{told}")


def test_arms_without_a_curve_are_named(findings):
    curves = findings.evidence.curves
    kept = curves[(curves["arm"] != "causal") | (curves["samples"] == 0)]
    report = document(replace(findings, evidence=replace(findings.evidence, curves=kept)), {})
    (caption,) = [figure.caption for figure in report.figures() if figure.name == "learning_curves"]
    assert f" No curve: {findings.study.label('causal')}. " in caption


def test_names_of_tables_and_figures_are_unique(report):
    blocks = [block for block in walk([*report.sections, *report.details]) if not isinstance(block, Section)]
    names = [block.name for block in blocks if getattr(block, "name", "")]
    assert len(names) == len(set(names))


def test_a_study_of_which_only_the_untrained_encoder_is_done_has_a_report(findings):
    metrics, runs = findings.evidence.metrics, findings.evidence.runs
    only = {"metrics": metrics[metrics["arm"] == UNTRAINED], "runs": runs[runs["arm"] == UNTRAINED]}
    evidence = replace(findings.evidence, **only, curves=pd.DataFrame())
    report = document(judged_again(findings, evidence), {})
    assert report.answer.endswith("Nothing is compared yet, as no arm shares two seeds with the baseline.")
    assert report.figures() == []


@pytest.mark.parametrize(
    ("values", "conclusion"),
    [
        (
            won_by_the_baseline(),
            "The baseline won: the best of 11 finished trials of 24, trial 0, is the baseline itself",
        ),
        (without_a_finished_trial(), "No result: none of the 2 trials finished"),
        (typical(), "Not confirmed yet: "),
    ],
)
@pytest.mark.parametrize("has_runs", [True, False])
def test_report_of_a_search_that_confirms_nothing_has_no_comparison(tiny, tmp_path, values, conclusion, has_runs):
    request = request_of_search(tiny, has_winner=False)
    if has_runs:
        write_confirmation(request, tmp_path)
    report = document(judge(request, load(request.cells, tmp_path), Look(1), {}, parsed(values)), {})
    of_runs = ["Baseline on fresh seeds", "Cost of the baseline's runs"] * has_runs
    last = ["Setup", "Methods, to paste into a paper", "Reproducibility checklist", "Runs"]
    assert [section.title for section in report.details] == ["The search in words", "Search", *of_runs, *last]
    assert report.details[0].blocks[0].text.startswith(conclusion)
    assert report.answer == "The search has no winner to confirm."
    assert report.lead is None
    tables = [block for block in walk([*report.sections, *report.details]) if isinstance(block, Table)]
    assert [table.name for table in tables if not table.rows] == [], "none is empty"
    text = to_markdown(report)
    assert not re.search("We compared|relative to baseline|look|margin|simultaneous|controls? did|unequal", text)
    assert report.numbers["look"] is None
    assert (report.numbers["withheld"], report.numbers["comparisons"]) == ([], {})
