"""The command as it is called: lines, status, report, and everything that can be asked wrongly."""

import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from aimv2.config.run_config import to_dict
from aimv2.config.signature import untrained
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.errors import UsageError
from aimv2.model.network import build
from analysis.verify.command import look_at, verify_command
from analysis.verify.report import summary, write_report
from analysis.verify.subject import find

PICTURES = {"prefix_lengths.svg", "balance.svg", "pixels.png", *(f"example_{n:02d}.png" for n in range(1, 9))}


@pytest.fixture
def copied(finished, tmp_path):
    """The run in a folder of its own, to be broken."""
    return shutil.copytree(finished.path, tmp_path / "runs" / finished.name)


def newest_attempt(path):
    return path / "attempts" / "0001"


def test_a_good_run_passes_and_its_report_is_whole(finished, tmp_path, capsys):
    out = tmp_path / "reports" / "verify"
    assert verify_command([str(finished.path), f"out={out}"]) == 0
    printed = capsys.readouterr().out
    numbers = re.findall(r"^(?:PASS|SHOWN)  (\d[a-d]?) ", printed, flags=re.M)
    assert numbers == ["1a", "1b", "1b", "2", "2", "3a", "3b", "3b", "3c", "3d"]
    assert not re.search(r"^FAIL", printed, flags=re.M)
    assert "\n9 lines: 9 PASS, 0 FAIL.\n" in printed
    assert "short" not in printed
    assert f"report: {out / 'report.md'}" in printed

    text = (out / "report.md").read_text()
    assert set(re.findall(r"!\[[^]]*\]\(([^)]*)\)", text)) == PICTURES
    assert {path.name for path in out.iterdir()} == {"report.md", *PICTURES}
    for line in printed.splitlines():
        if line.startswith("PASS"):
            assert line.split(": ", 1)[1].split(" (asked")[0] in text
    assert finished.name in text
    assert f"python -m analysis.verify {finished.path} out={out}" in text
    config = json.loads(re.search(r"```json\n(.*?)```", text, flags=re.S)[1])
    assert config["model"]["image_px"] == 16
    assert Image.open(out / "example_01.png").size == (96, 96)
    assert not list(out.parent.glob(".*")), "nothing is left beside it"

    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert verify_command([str(finished.path), f"out={out}"]) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before, "twice the same"


def test_random_weights_fail_and_the_report_says_so(copied, trained, tmp_path, capsys):
    save_file(build(trained).state_dict(), newest_attempt(copied) / "weights.safetensors")
    assert verify_command([f"run={copied}", f"out={tmp_path / 'out'}"]) == 1
    printed = capsys.readouterr().out
    assert re.findall(r"^FAIL  (\d\w)", printed, flags=re.M) == ["3a", "3b", "3b"]
    assert "\n9 lines: 6 PASS, 3 FAIL.\nThe run is short: it has seen 9,600 samples." in printed
    assert "`python -m aimv2 train scale=demo objective.name=aimv2`, which sees 20,480." in printed
    assert (tmp_path / "out" / "report.md").read_text().count("**FAIL**") == 3


def test_without_a_run_the_newest_finished_trained_one_is_taken(copied, trained):
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
    "no config": (remove("config.json"), "is no run: it has no config.json"),
    "torn config": (overwrite("config.json", b'{"scale"'), "is broken: "),
    "config of another version": (other_version, "unknown key 'rotary'"),
    "torn result": (overwrite("result.json", b"{}"), "is not the result of a run"),
    "torn metrics": (in_attempt(overwrite("metrics.parquet", b"PAR1")), "metrics.parquet cannot be read"),
    "no weights": (in_attempt(remove("weights.safetensors")), "does not hold this run's weights"),
    "torn weights": (in_attempt(cut_short), "does not hold this run's weights"),
    "other weights": (in_attempt(other_weights), "does not hold this run's weights"),
    "no tokenizer": (in_attempt(remove("tokenizer.json")), "its tokenizer.json cannot be read"),
    "torn tokenizer": (in_attempt(overwrite("tokenizer.json", b"{")), "its tokenizer.json cannot be read"),
    "other tokenizer": (in_attempt(other_tokenizer), "the data package changed"),
    "other data": (other_fingerprint, "the data package changed"),
    "untrained": (make_untrained, "is an untrained encoder"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_one_sentence(copied, tmp_path, change, message):
    change(copied)
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        verify_command([f"run={copied}", f"out={tmp_path / 'out'}"])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run=nowhere"], "run='nowhere' is no run"),
        (["nowhere"], "run='nowhere' is no run"),
        ([], "runs_dir='runs' has no finished trained run; make one with: python -m aimv2 train"),
        (["runs_dir=mine"], "python -m aimv2 train runs_dir=mine"),
        (["rum=x"], "unknown key 'rum'. Did you mean 'run'? Allowed: out, run, runs_dir."),
        (["x", "run=y"], "run= is given twice; once is allowed"),
        (["run="], "run= has no value"),
        (["out=x", "y"], "cannot read 'y': arguments have the form key=value"),
    ],
)
def test_misuse_says_what_is_allowed(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=re.escape(message)):
        verify_command(arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_run_may_be_named_within_its_folder(copied, tmp_path):
    (copied / "result.json").unlink()
    with pytest.raises(UsageError, match="is not finished"):
        verify_command([f"run={copied.name}", f"runs_dir={copied.parent}"])


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_done(finished, monkeypatch):
    monkeypatch.setattr("analysis.verify.command.look_at", lambda subject: pytest.fail("it was looked at"))
    with pytest.raises(UsageError, match="out='/proc/nowhere' cannot be written"):
        verify_command([f"run={finished.path}", "out=/proc/nowhere"])


KINDS = {
    "image_only": ({"objective": {"name": "image_only"}}, 6),
    "clip": ({"objective": {"name": "clip"}, "encoder": {"attention": "auto"}}, 10),
    "caption": ({"objective": {"name": "caption"}}, 3),
    "separate": ({"decoder": {"sharing": "separate"}}, 2),
    "text first": ({"decoder": {"order": "text_first"}}, 1),
    "raw spiral": ({"objective": {"pixel_targets": "raw"}, "model": {"patch_order": "spiral"}}, 0),
    "ends": ({"objective": {"supervise_eos": True}, "prefix": {"per": "batch"}}, 0),
}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "num_not_applicable"), KINDS.values(), ids=KINDS)
def test_every_kind_of_run_has_a_report(variant, tmp_path, kind, num_not_applicable):
    subject = variant(**kind)
    findings = look_at(subject)
    assert len(findings.lines) == 10
    assert [line.verdict for line in findings.lines].count("NOT APPLICABLE") == num_not_applicable
    text = write_report(subject, findings, [], tmp_path / "out").read_text()
    absent = f", {num_not_applicable} NOT APPLICABLE" if num_not_applicable else ""
    assert re.search(rf"^\d+ lines: \d PASS, \d FAIL{absent}\.", text, flags=re.M)
    shown = set(re.findall(r"!\[[^]]*\]\(([^)]*)\)", text))
    assert shown == {path.name for path in (tmp_path / "out").iterdir()} - {"report.md"}
    never_stops = bool(findings.captions.shown) and not subject.config.objective.supervise_eos
    assert ("never learned to stop" in text) == never_stops


def test_a_report_replaces_its_own_files_and_no_others(variant, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("pixels.png", "example_09.png", "mine.png"):
        (out / name).write_text("old")
    subject = variant(objective={"name": "caption"})
    write_report(subject, look_at(subject), [], out)
    names = {path.name for path in out.iterdir()}
    assert "mine.png" in names
    assert not names & {"pixels.png", "example_09.png", "balance.svg"}


def test_a_report_that_cannot_be_finished_leaves_the_old_one(variant, tmp_path, monkeypatch):
    subject = variant(objective={"name": "caption"})
    findings = look_at(subject)
    write_report(subject, findings, ["first"], tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("analysis.verify.report.save_thumbnail", full)
    with pytest.raises(UsageError, match="No space left on device"):
        write_report(subject, findings, ["second"], tmp_path / "out")
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_captions_cannot_become_markup(variant, tmp_path):
    subject = variant(objective={"name": "caption"})
    findings = look_at(subject)
    shown = [replace(findings.captions.shown[0], greedy="a | <b> `c`\nd")]
    findings = findings._replace(captions=findings.captions._replace(shown=shown))
    text = write_report(subject, findings, [], tmp_path / "out").read_text()
    assert r"a \| \<b\> \`c\` d |" in text


def test_the_shown_pairs_are_the_first_by_hash(variant):
    subject = variant(objective={"name": "caption"})
    ids = subject.held_out.table["sample_id"].to_numpy()
    rows = [caption.row for caption in look_at(subject).captions.shown]
    assert sorted(ids[rows]) == np.sort(ids)[:8].tolist()


@pytest.mark.parametrize(
    ("attention", "verified"),
    [
        ("bidirectional", "nothing"),
        ("prefix", "prefix lengths follow their law, the encoder's mask leaks nothing"),
    ],
)
def test_a_contrastive_run_says_what_is_verified(variant, attention, verified):
    subject = variant(objective={"name": "siglip"}, encoder={"attention": attention})
    counts, objective, *rest = summary(subject, look_at(subject))
    num_verified = verified.count(",") + (verified != "nothing")
    assert counts == f"10 lines: {num_verified} PASS, 0 FAIL, {10 - num_verified} NOT APPLICABLE."
    assert objective.startswith("Objective siglip predicts neither pixels nor captions")
    assert f"; verified: {verified}. " in objective
    assert not rest


def test_a_run_as_long_as_its_recipe_is_not_called_short(small):
    failing = look_at(small)
    line = replace(failing.pixels.line, verdict="FAIL")
    failing = failing._replace(pixels=failing.pixels._replace(line=line))
    assert len(summary(small, failing)) == 2
    budget = replace(small.config.budget, samples=20_480)
    long = replace(small, config=replace(small.config, scale="demo", budget=budget))
    assert len(summary(long, failing)) == 1
