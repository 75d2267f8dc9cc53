from dataclasses import replace
from xml.etree import ElementTree

from markdown_it import MarkdownIt

from aimv2.analysis.sections.examples import section
from aimv2.config.paths import replaced
from tests.analysis.conftest import MARKUP
from tests.helpers.documents import tables, text_of
from tests.helpers.evidence import PIXEL
from tests.helpers.specimen import STUDY


def test_section_shows_the_image_and_what_each_arm_wrote(findings):
    shown, images = section(findings)
    ((path, sheet),) = images.items()
    assert f"![images 1 to 1]({path})" in text_of(shown)
    (image,) = ElementTree.fromstring(sheet).iter("{http://www.w3.org/2000/svg}image")
    assert image.get("href") == f"data:image/png;base64,{PIXEL}"
    table = tables(shown)["examples"]
    arms = list(STUDY.arms)
    assert table.columns == ["image", "reference", *(STUDY.label(arm) for arm in arms)]
    ((image, reference, *cells),) = table.rows
    assert image == "1"
    assert reference == "apple"
    assert cells[arms.index("causal")] == "red apple"
    html = MarkdownIt("commonmark").enable("strikethrough").renderInline(cells[arms.index("uniform")])
    assert "<img" not in html
    assert "href" not in html, f"{MARKUP} stays text"


def test_without_examples_there_is_no_section(findings):
    assert section(replace(findings, evidence=replace(findings.evidence, examples={}))) == (None, {})


def test_an_arm_that_wrote_nothing_has_no_column(findings):
    written = findings.evidence.examples | {"causal": []}
    shown, _ = section(replace(findings, evidence=replace(findings.evidence, examples=written)))
    assert tables(shown)["examples"].columns == [
        "image", "reference", *(STUDY.label(arm) for arm in STUDY.arms if arm != "causal")
    ]  # fmt: skip


def test_captions_that_are_cut_are_said_to_be(findings):
    def introduction(*, supervise_eos, arms=STUDY.arms):
        changed = {"objective.supervise_eos": supervise_eos}
        cells = [
            replace(cell, config=replaced(cell.config, changed)) if cell.arm in arms else cell
            for cell in findings.cells
        ]
        return text_of(section(replace(findings, request=replace(findings.request, cells=cells)))[0])

    assert "captions are cut" not in introduction(supervise_eos=True)
    assert "The end of text is not a training target, as" in introduction(supervise_eos=False)
    others = "; ".join(STUDY.label(arm) for arm in STUDY.arms if arm != "causal")
    assert f"is not a training target of {others}, as" in introduction(supervise_eos=True, arms=["causal"])
