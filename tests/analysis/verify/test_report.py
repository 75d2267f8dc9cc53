"""The text and the files of the report, for every kind of run."""

import re
from dataclasses import replace

import pytest
from aimv2.base.errors import UsageError
from PIL import Image

from analysis.verify.command import check
from analysis.verify.report import summary, write_report

KINDS = {
    "image_only": ({"objective": {"name": "image_only"}}, 5),
    "clip": ({"objective": {"name": "clip"}, "encoder": {"attention": "auto"}}, 9),
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


@pytest.mark.parametrize(("kind", "num_not_applicable"), KINDS.values(), ids=KINDS)
def test_every_kind_of_run_has_a_report(variant, tmp_path, kind, num_not_applicable):
    run = variant(**kind)
    findings = check(run)
    assert len(findings.checks) == 9
    assert [outcome.verdict for outcome in findings.checks].count("NOT APPLICABLE") == num_not_applicable
    text = write_report(run, findings, [], tmp_path / "out").read_text()
    absent = f", {num_not_applicable} NOT APPLICABLE" if num_not_applicable else ""
    assert re.search(rf"^\d+ checks: \d PASS, \d FAIL{absent}\.", text, flags=re.M)
    shown = set(re.findall(r"!\[[^]]*\]\(([^)]*)\)", text))
    assert shown == {path.name for path in (tmp_path / "out").iterdir()} - {"report.md"}
    never_stops = bool(findings.captions.shown) and not run.config.objective.supervise_eos
    assert ("never learned to stop" in text) == never_stops


def test_the_same_run_has_the_same_report(captioner, tmp_path):
    run, findings = captioner
    one = write_report(run, findings, [], tmp_path / "one").parent
    other = write_report(run, check(run), [], tmp_path / "other").parent
    files = {path.name: path.read_bytes() for path in one.iterdir()}
    assert {path.name: path.read_bytes() for path in other.iterdir()} == files


def test_report_replaces_its_own_files_and_no_others(captioner, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("pixels.png", "example_09.png", "mine.png"):
        (out / name).write_text("old")
    text = write_report(*captioner, [], out).read_text()
    names = {path.name for path in out.iterdir()}
    assert "mine.png" in names
    assert not names & {"pixels.png", "example_09.png", "balance.svg"}
    assert re.search(r"^9 checks: \d PASS, \d FAIL, 3 NOT APPLICABLE\.", text, flags=re.M)


def test_report_that_cannot_be_finished_leaves_the_old_one(captioner, tmp_path, monkeypatch):
    write_report(*captioner, ["first"], tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UsageError, match="No space left on device"):
        write_report(*captioner, ["second"], tmp_path / "out")
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_captions_are_escaped(captioner, tmp_path):
    run, findings = captioner
    shown = [findings.captions.shown[0]._replace(greedy="a | <b> `c`\nd")]
    findings = findings._replace(captions=findings.captions._replace(shown=shown))
    text = write_report(run, findings, [], tmp_path / "out").read_text()
    assert r"a \| \<b\> \`c\` d |" in text


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
    assert counts == f"9 checks: {num_verified} PASS, 0 FAIL, {9 - num_verified} NOT APPLICABLE."
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
