"""The command as it is called: lines, status, report, and everything that can be asked wrongly."""

import json
import os
import re
import runpy
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from aimv2.cli import guarded
from aimv2.config.run_config import to_dict
from aimv2.config.signature import untrained
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.errors import UsageError
from aimv2.model.network import build
from analysis.verify.balance import END, TRAINING
from analysis.verify.captions import CACHE, IMAGE, UNIGRAM
from analysis.verify.command import check, verify_command
from analysis.verify.masks import DECODER, ENCODER
from analysis.verify.pixels import NAME as PIXELS
from analysis.verify.prefix import NAME as PREFIX
from analysis.verify.report import summary, write_report
from analysis.verify.trained_run import find

CHECKS = [PREFIX, ENCODER, DECODER, TRAINING, END, PIXELS, UNIGRAM, IMAGE, CACHE]
PICTURES = {"prefix_lengths.svg", "balance.svg", "pixels.png", *(f"example_{n:02d}.png" for n in range(1, 9))}


@pytest.fixture
def copied(finished, tmp_path):
    """The run in a folder of its own, to be broken."""
    return shutil.copytree(finished.path, tmp_path / "runs" / finished.name)


@pytest.fixture(scope="module")
def captioner(variant):
    """A run without pixels, and its findings."""
    run = variant(objective={"name": "caption"})
    return run, check(run)


def newest_attempt(path):
    return path / "attempts" / "0001"


def test_trained_run_passes_and_its_report_is_complete(finished, tmp_path, capsys):
    out = tmp_path / "reports" / "verify"
    assert verify_command([str(finished.path), f"out={out}"]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^PASS  (.*?):", printed, flags=re.M) == CHECKS
    assert not re.search(r"^FAIL", printed, flags=re.M)
    assert "\n9 checks: 9 PASS, 0 FAIL.\n" in printed
    assert "short" not in printed
    assert f"report: {out / 'report.md'}" in printed

    text = (out / "report.md").read_text()
    assert set(re.findall(r"!\[[^]]*\]\(([^)]*)\)", text)) == PICTURES
    assert {path.name for path in out.iterdir()} == {"report.md", *PICTURES}
    for line in printed.splitlines():
        if line.startswith("PASS"):
            assert line.split(": ", 1)[1].split(" (criterion")[0] in text
    assert finished.name in text
    assert f"python -m analysis.verify {finished.path} out={out}" in text
    config = json.loads(re.search(r"```json\n(.*?)```", text, flags=re.S)[1])
    assert config["model"]["image_px"] == 16
    assert Image.open(out / "example_01.png").size == (96, 96)
    assert not list(out.parent.glob(".*")), "nothing is left beside it"

    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert verify_command([str(finished.path), f"out={out}"]) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before, "twice the same"


def test_random_weights_fail_in_output_and_report(copied, trained, tmp_path, capsys):
    save_file(build(trained).state_dict(), newest_attempt(copied) / "weights.safetensors")
    assert verify_command([f"run={copied}", f"out={tmp_path / 'out'}"]) == 1
    printed = capsys.readouterr().out
    assert re.findall(r"^FAIL  (.*?):", printed, flags=re.M) == [PIXELS, UNIGRAM, IMAGE]
    assert "\n9 checks: 6 PASS, 3 FAIL.\nThe run is short: it has seen 9,600 samples." in printed
    assert "`python -m aimv2 train scale=demo objective.name=aimv2`, which sees 20,480." in printed
    assert (tmp_path / "out" / "report.md").read_text().count("**FAIL**") == 3


def test_default_is_the_newest_finished_trained_run(copied, trained):
    runs_dir = copied.parent
    ages = {copied.name: 1000, "v1-000000000000": 1, "v1-111111111111": 2000, "v1-222222222222": 3000}
    for name, when in ages.items():
        path = runs_dir / name
        if name != copied.name:
            shutil.copytree(copied, path)
        os.utime(path / "result.json", (when, when))
    (runs_dir / "v1-111111111111" / "result.json").unlink()
    (runs_dir / "v1-222222222222" / "config.json").write_text(json.dumps(to_dict(untrained(trained))))
    assert find(None, runs_dir).name == copied.name
    os.utime(runs_dir / "v1-000000000000" / "result.json", (1001, 1001))
    assert find(None, runs_dir).name == "v1-000000000000"


def remove(name):
    return lambda path: (path / name).unlink()


def overwrite(name, content):
    return lambda path: (path / name).write_bytes(content)


def in_attempt(change):
    return lambda path: change(newest_attempt(path))


def cut_short(path):
    content = (path / "weights.safetensors").read_bytes()
    (path / "weights.safetensors").write_bytes(content[: len(content) // 2])


def other_weights(path):
    save_file({"encoder.norm.weight": torch.ones(32)}, path / "weights.safetensors")


def make_untrained(path):
    config = json.loads((path / "config.json").read_text())
    config["budget"]["samples"] = 0
    (path / "config.json").write_text(json.dumps(config))


def other_version(path):
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"rotary": True}))


def other_tokenizer(path):
    (path / "tokenizer.json").write_text(CaptionTokenizer.train(["a house", "a tree"], 300).to_json())


def other_fingerprint(path):
    config = json.loads((path / "config.json").read_text())
    config["data"]["fingerprint"] = "0123456789ab"
    (path / "config.json").write_text(json.dumps(config))


BROKEN = {
    "unfinished": (remove("result.json"), "is not finished (new)"),
    "no config": (remove("config.json"), "is not a run: it has no config.json"),
    "torn config": (overwrite("config.json", b'{"scale"'), "is broken: "),
    "config of another version": (other_version, "unknown key 'rotary'"),
    "torn result": (overwrite("result.json", b"{}"), "is no result of a run"),
    "torn metrics": (in_attempt(overwrite("metrics.parquet", b"PAR1")), "metrics.parquet cannot be read"),
    "no weights": (in_attempt(remove("weights.safetensors")), "does not hold this run's weights"),
    "torn weights": (in_attempt(cut_short), "does not hold this run's weights"),
    "other weights": (in_attempt(other_weights), "does not hold this run's weights"),
    "no tokenizer": (in_attempt(remove("tokenizer.json")), "its tokenizer.json cannot be read"),
    "torn tokenizer": (in_attempt(overwrite("tokenizer.json", b"{")), "its tokenizer.json cannot be read"),
    "other tokenizer": (in_attempt(other_tokenizer), "the data packages changed"),
    "other data": (other_fingerprint, "the data packages changed"),
    "untrained": (make_untrained, "is an untrained encoder"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_run_is_refused_in_one_sentence(copied, tmp_path, change, message):
    change(copied)
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        verify_command([f"run={copied}", f"out={tmp_path / 'out'}"])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run=nowhere"], "run='nowhere' is not a run"),
        (["nowhere"], "run='nowhere' is not a run"),
        ([], "runs_dir='runs' has no finished trained run; make one with: python -m aimv2 train"),
        (["runs_dir=mine"], "python -m aimv2 train runs_dir=mine"),
        (["rum=x"], "unknown key 'rum'. Did you mean 'run'? Allowed: out, run, runs_dir."),
        (["x", "run=y"], "run= is given twice; once is allowed"),
        (["run="], "run= has no value"),
        (["out=x", "y"], "cannot read 'y': arguments have the form key=value"),
    ],
)
def test_bad_arguments_are_refused_with_what_is_allowed(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=re.escape(message)):
        verify_command(arguments)
    assert list(tmp_path.iterdir()) == []


def test_run_is_found_by_its_name_in_runs_dir(copied, tmp_path):
    (copied / "result.json").unlink()
    with pytest.raises(UsageError, match="is not finished"):
        verify_command([f"run={copied.name}", f"runs_dir={copied.parent}"])


def test_folder_that_cannot_be_written_is_refused_before_the_checks(finished, capsys):
    with pytest.raises(UsageError, match="out='/proc/nowhere' cannot be written"):
        verify_command([f"run={finished.path}", "out=/proc/nowhere"])
    assert capsys.readouterr().out == ""


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
    "separate": ({"decoder": {"sharing": "separate"}}, 2),
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


def test_shown_pairs_are_the_first_by_hash(captioner):
    run, findings = captioner
    ids = run.held_out.table["sample_id"].to_numpy()
    rows = [caption.row for caption in findings.captions.shown]
    assert sorted(ids[rows]) == np.sort(ids)[:8].tolist()


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


def test_run_as_long_as_its_recipe_is_not_called_short(small):
    failing = check(small)
    failed = replace(failing.pixels.check, verdict="FAIL")
    failing = failing._replace(pixels=failing.pixels._replace(check=failed))
    assert len(summary(small, failing)) == 2
    budget = replace(small.config.budget, samples=20_480)
    long = replace(small, config=replace(small.config, scale="demo", budget=budget))
    assert len(summary(long, failing)) == 1


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_printed_and_nothing_else_done(flag, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert guarded(verify_command, ["run=nowhere", flag]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: python -m analysis.verify ")
    assert all(key in printed for key in ("run=", "runs_dir=runs", "out=reports/verify", "debug=true"))
    assert list(tmp_path.iterdir()) == []


def test_module_is_a_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["verify", "runs_dir=none"])
    with pytest.raises(SystemExit) as exited:
        runpy.run_module("analysis.verify", run_name="__main__")
    assert exited.value.code == 2
    assert capsys.readouterr().err.startswith("error: runs_dir='none' has no finished trained run")


def test_debug_shows_the_traceback(capsys):
    for debug, has_traceback in (("debug=true", True), ("debug=false", False)):
        assert guarded(verify_command, ["nothing=1", debug]) == 2
        printed = capsys.readouterr().err
        assert "error: unknown key 'nothing'" in printed
        assert ("Traceback" in printed) == has_traceback
