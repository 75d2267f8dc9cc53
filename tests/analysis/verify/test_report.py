"""The text and the files of the report, for every kind of run."""

import re
from dataclasses import replace

import pytest

from aimv2.analysis.document.pages import to_markdown
from aimv2.analysis.document.write import write
from aimv2.analysis.verify.command import check
from aimv2.analysis.verify.report import document, summary
from tests.helpers.marks import everyday

KINDS = {
    "image_only": ({"objective": {"name": "image_only"}}, 4),
    "clip": ({"objective": {"name": "clip"}, "encoder": {"attention": "auto"}}, 8),
    "text first": ({"decoder": {"order": "text_first"}}, 1),
    "raw spiral with ends": (
        {
            "objective": {"pixel_targets": "raw", "supervise_eos": True},
            "model": {"patch_order": "spiral"},
            "prefix": {"per": "batch"},
        },
        0,
    ),
}


@pytest.mark.parametrize("name", everyday(["clip"], KINDS))
def test_every_kind_of_run_has_a_report(variant, tmp_path, name):
    kind, num_not_applicable = KINDS[name]
    run = variant(**kind)
    findings = check(run)
    assert len(findings.checks) == 8
    assert [outcome.verdict for outcome in findings.checks].count("NOT APPLICABLE") == num_not_applicable
    path = write(document(run, findings, []), tmp_path / "out")
    text = path.read_text()
    absent = f", {num_not_applicable} NOT APPLICABLE" if num_not_applicable else ""
    assert re.search(rf"^> \d+ checks: \d PASS, \d FAIL{absent}\.", text, flags=re.M)
    assert text.count("\nNot applicable: ") == sum(
        [findings.balance.recorded.empty, not findings.pixels.errors, not findings.captions.shown]
    )
    shown = set(re.findall(r"!\[[^]]*\]\(([^)]*)\)", text))
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.[ps][nv]g")}
    assert shown == written
    never_stops = bool(findings.captions.shown) and not run.config.objective.supervise_eos
    assert ("never learned to stop" in text) == never_stops


def test_captions_are_escaped(captioner):
    run, findings = captioner
    shown = [findings.captions.shown[0]._replace(written="a | <b> `c`\nd")]
    findings = findings._replace(captions=findings.captions._replace(shown=shown))
    assert r"a \| \<b\> \`c\` d |" in to_markdown(document(run, findings, []))


@pytest.mark.parametrize(
    ("attention", "verified"),
    [
        ("bidirectional", "nothing"),
        ("prefix", "prefix lengths follow their distribution, the encoder's mask leaks nothing"),
    ],
)
def test_summary_of_a_contrastive_run_names_what_is_verified(variant, attention, verified):
    run = variant(objective={"name": "siglip"}, encoder={"attention": attention})
    counts, objective, *rest = summary(run, check(run))
    num_verified = verified.count(",") + (verified != "nothing")
    assert counts == f"8 checks: {num_verified} PASS, 0 FAIL, {8 - num_verified} NOT APPLICABLE."
    assert objective.startswith("Objective siglip predicts neither pixels nor captions")
    assert f"; verified: {verified}. " in objective
    assert not rest


def test_run_as_long_as_its_recipe_is_not_called_short(captioner):
    run, findings = captioner
    assert any(outcome.verdict == "FAIL" for outcome in findings.checks), "its weights are random"
    assert len(summary(run, findings)) == 2
    budget = replace(run.config.budget, samples=20_480)
    long = replace(run, config=replace(run.config, scale="demo", budget=budget))
    assert len(summary(long, findings)) == 1
