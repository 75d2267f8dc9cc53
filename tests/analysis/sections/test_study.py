import re
from dataclasses import replace
from xml.etree import ElementTree

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from aimv2.ablations.study import UNTRAINED
from aimv2.analysis.document.model import Section, Table, walk
from aimv2.analysis.document.pages import to_markdown
from aimv2.analysis.evidence.run_files import load
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.findings import judge
from aimv2.analysis.sections.study import document
from tests.analysis.conftest import MARKUP
from tests.helpers.documents import changed, judged_again, tables, text_of
from tests.helpers.evidence import PIXEL
from tests.helpers.searches import (
    parsed,
    request_of_search,
    typical,
    without_a_finished_trial,
    won_by_the_baseline,
    write_confirmation,
)
from tests.helpers.specimen import STUDY


@pytest.fixture(scope="module")
def report(findings):
    return document(findings, {"more.txt": b"more"})


def test_the_subtitle_says_what_changes_the_base_run_and_what_arms_have_in_common_besides_samples(findings):
    unchanging = ["sweep=prefix_ratio", "scale=test", "sweep.seeds=4", "loader.num_workers=4", "device=cpu"]
    words = [*unchanging, "start.weights=runs/v2-1", "data.dense_fraction=0.33"]
    report = document(replace(findings, request=replace(findings.request, arguments=words)), {})
    assert report.subtitle.endswith("4 seeds · `start.weights=runs/v2-1 data.dense_fraction=0.33`")
    for equal, told in (("samples", ""), ("flops", " · arms at equal FLOPs")):
        judged = judged_again(findings, findings.evidence, study=replace(findings.study, equal=equal))
        assert document(judged, {}).subtitle.endswith(f"4 seeds{told}")


def test_arms_without_a_curve_are_named(findings):
    curves = findings.evidence.curves
    kept = curves[(curves["arm"] != "causal") | (curves["samples"] == 0)]
    report = document(changed(findings, evidence=replace(findings.evidence, curves=kept)), {})
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


@pytest.mark.parametrize("values", [won_by_the_baseline(), without_a_finished_trial(), typical()])
@pytest.mark.parametrize("has_runs", [True, False])
def test_report_of_a_search_that_confirms_nothing_has_no_comparison(tiny, tmp_path, values, has_runs):
    request = request_of_search(tiny, has_winner=False)
    if has_runs:
        write_confirmation(request, tmp_path)
    report = document(judge(request, load(request.cells, tmp_path), Look(1, 16), {}, parsed(values)), {})
    of_runs = ["All metrics", "Cost of the baseline's runs"] * has_runs
    last = ["Setup", "Runs"]
    assert [section.title for section in report.details] == ["Search", *of_runs, *last]
    assert report.answer == "The search has no winner to confirm."
    assert report.lead is None
    every = [block for block in walk([*report.sections, *report.details]) if isinstance(block, Table)]
    assert [table.name for table in every if not table.rows] == [], "none is empty"
    text = to_markdown(report)
    assert not re.search("We compared|relative to baseline|look|margin|simultaneous|controls? did|unequal", text)
    assert report.numbers["look"] is None
    assert (report.numbers["withheld"], report.numbers["comparisons"]) == ([], {})


def examples_of(findings):
    """Return the section of examples, if there is one, and the files of the report."""
    report = document(findings, {})
    return next((section for section in report.details if section.title == "Examples"), None), report.files


def test_section_shows_the_image_and_what_each_arm_wrote(findings):
    shown, images = examples_of(findings)
    sheet = ElementTree.fromstring(images["figures/examples.svg"])
    (image,) = sheet.iter("{http://www.w3.org/2000/svg}image")
    assert image.get("href") == f"data:image/png;base64,{PIXEL}"
    assert "![images 1 to 1](figures/examples.svg)" in text_of(shown)
    table = tables(shown)["examples"]
    arms = list(STUDY.arms)
    assert table.columns == ["image", "reference", *(STUDY.label(arm) for arm in arms)]
    ((number, reference, *cells),) = table.rows
    assert number == "1"
    assert reference == "apple"
    assert cells[arms.index("causal")] == "red apple"
    html = MarkdownIt("commonmark").enable("strikethrough").renderInline(cells[arms.index("uniform")])
    assert "<img" not in html
    assert "href" not in html, f"{MARKUP} stays text"


def test_an_arm_that_wrote_nothing_has_no_column_and_without_examples_there_is_no_section(findings):
    assert examples_of(changed(findings, evidence=replace(findings.evidence, examples={})))[0] is None
    written = findings.evidence.examples | {"causal": []}
    shown, _ = examples_of(changed(findings, evidence=replace(findings.evidence, examples=written)))
    assert tables(shown)["examples"].columns == [
        "image", "reference", *(STUDY.label(arm) for arm in STUDY.arms if arm != "causal")
    ]  # fmt: skip
