import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from aimv2.config.paths import replaced
from analysis.document.model import lines_of
from analysis.sections.examples import compare, section
from tests.analysis.conftest import MARKUP
from tests.helpers.documents import tables, text_of
from tests.helpers.evidence import PIXEL
from tests.helpers.specimen import STUDY

WORDS = st.lists(st.sampled_from(["red", "blue", "two", "left", "of"]), max_size=8).map(" ".join)


@pytest.mark.parametrize(
    ("written", "markdown", "counts"),
    [
        ("two red apples", "**two red apples**", "3 of 3 words right"),
        ("two blue apples", "**two** ~~blue~~ **apples**", "2 of 3 words right"),
        ("two apples", "**two** **apples**", "2 of 3 words right, 1 missing"),
        ("two red apples left of it", "**two red apples** ~~left of it~~", "3 of 3 words right"),
        ("", "*nothing*", "0 of 3 words right, 3 missing"),
        ("two *red* apples", r"**two** ~~\*red\*~~ **apples**", "2 of 3 words right"),
    ],
)
def test_words_are_right_wrong_or_missing(written, markdown, counts):
    found = compare("two red apples", written)
    assert (found.markdown, found.counts) == (markdown, counts)


@given(WORDS, WORDS)
def test_every_word_is_shown_and_counts_add_up(reference, written):
    found = compare(reference, written)
    assert " ".join(text for text, _ in found.parts) == written
    right = [word for text, is_right in found.parts if is_right for word in text.split()]
    rest = iter(reference.split())
    assert all(word in rest for word in right), "right words are in the reference, in their order"
    assert found.num_right == len(right)
    assert found.num_right + found.num_missing <= found.num_words == len(reference.split())


def test_section_shows_the_image_and_what_each_arm_wrote(findings):
    evidence = findings.evidence
    shown, images = section(findings)
    assert images == {"figures/example_01.png": base64.b64decode(PIXEL)}
    table = tables(shown)["examples"]
    arms = list(STUDY.arms)
    assert table.columns == ["image", "reference", *(STUDY.label(arm) for arm in arms)]
    ((image, reference, *cells),) = table.rows
    assert image == "![image 1](figures/example_01.png)"
    assert reference == "apple"
    causal = cells[arms.index("causal")]
    assert causal.lines == ("1 of 1 words right", "~~red~~ **apple**")
    assert causal.value == 1
    first = evidence.runs[evidence.runs["arm"] == "causal"].iloc[0]
    assert causal.runs == (first["run"],)
    text = lines_of(cells[arms.index("uniform")])[1]
    html = MarkdownIt("commonmark").enable("strikethrough").renderInline(text)
    assert html.startswith("<s>")
    assert "<img" not in html
    assert "href" not in html, f"{MARKUP} stays text"


def test_without_examples_there_is_no_section(findings):
    assert section(replace(findings, evidence=replace(findings.evidence, examples={}))) == (None, {})


def test_captions_that_are_cut_are_said_to_be(findings):
    def introduction(*, supervise_eos):
        changed = {"objective.supervise_eos": supervise_eos}
        cells = [replace(cell, config=replaced(cell.config, changed)) for cell in findings.cells]
        return text_of(section(replace(findings, request=replace(findings.request, cells=cells)))[0])

    assert "captions are cut" not in introduction(supervise_eos=True)
    assert "captions are cut" in introduction(supervise_eos=False)
