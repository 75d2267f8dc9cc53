"""The command: finding and loading a run, output, exit status and report, and runs and arguments that are refused."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from aimv2.analysis.document.write import write
from aimv2.analysis.verify.__main__ import document, find, load, summary, verify_command
from aimv2.analysis.verify.checks import checks_of
from aimv2.base.errors import UsageError
from aimv2.config.recipes.scales import SCALES
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.objectives.build import build

ATTEMPT = "attempts/0001"


def test_trained_run_passes_and_its_report_is_complete(finished, tmp_path, capsys):
    out = tmp_path / "reports" / "verify"
    assert verify_command([str(finished.path), f"out={out}"]) == 0
    printed = capsys.readouterr().out
    assert len(re.findall(r"^PASS  ", printed, flags=re.M)) == 7
    assert "\n7 checks: 7 PASS, 0 FAIL, 0 NOT APPLICABLE.\n" in printed
    assert f"report: {out / 'report.md'}" in printed
    text = (out / "report.md").read_text()
    for line in printed.splitlines():
        if line.startswith("PASS"):
            assert line.split(": ", 1)[1].split(" (criterion")[0] in text
    assert {path.name for path in out.iterdir()} == {"report.md", "report.html", "report.json"}
    assert f"python -m aimv2.analysis.verify {finished.path} out={out}" in text
    assert not list(out.parent.glob(".*")), "nothing is left beside it"


def test_random_weights_fail_in_output_and_report(copied, trained, tmp_path, capsys):
    save_file(build(trained).state_dict(), copied / ATTEMPT / "weights.safetensors")
    assert verify_command([f"run={copied}", f"out={tmp_path / 'out'}"]) == 1
    printed = capsys.readouterr().out
    assert re.findall(r"^FAIL  (.*?):", printed, flags=re.M) == [
        "predicted pixels beat each patch's mean",
        "captions depend on their image",
    ]
    assert "\n7 checks: 5 PASS, 2 FAIL, 0 NOT APPLICABLE. The run is short: it has seen 6,400 samples." in printed
    recipe = SCALES["demo"]().budget.samples
    assert f"`python -m aimv2 train scale=demo objective.name=aimv2`, which sees {recipe:,}." in printed
    assert (tmp_path / "out" / "report.md").read_text().count("**FAIL**") == 2


@pytest.mark.parametrize(
    "kind",
    [
        {"objective": {"name": "clip"}, "encoder": {"attention": "auto"}},
        {"objective": {"name": "image_only"}},
        {"objective": {"pixel_targets": "raw", "supervise_eos": True}, "model": {"patch_order": "spiral"}},
    ],
)
def test_every_kind_of_run_has_a_report(variant, tmp_path, kind):
    run = variant(**kind)
    checks = checks_of(run)
    num_absent = [check.verdict for check in checks].count("NOT APPLICABLE")
    assert f", {num_absent} NOT APPLICABLE." in summary(run, checks)
    assert write(document(run, checks, []), tmp_path / "out").read_text().count("NOT APPLICABLE") > num_absent


def test_default_is_the_newest_finished_trained_run(copied, trained):
    runs_dir = copied.parent
    older, unfinished, newest = (runs_dir / f"v2-{digit * 12}" for digit in "012")
    for path, when in ((copied, 1000), (older, 1), (unfinished, 2000), (newest, 3000)):
        if path != copied:
            shutil.copytree(copied, path)
        os.utime(path / "result.json", (when, when))
    (unfinished / "result.json").unlink()
    (newest / "config.json").write_text(json.dumps(trained.untrained().to_dict()))
    assert find(None, runs_dir).path == copied
    for key in ("captions", "pixels"):
        (newest / "config.json").write_text(json.dumps(trained.to_dict()))
        with_value("data", key, "shuffled")(newest)
        assert find(None, runs_dir).path == copied, "a control fails by design"
    os.utime(older / "result.json", (1001, 1001))
    assert find(None, runs_dir).path == older


def test_run_is_found_by_path_or_by_name_in_runs_dir(copied, monkeypatch):
    for run, runs_dir in ((str(copied), Path("runs")), (copied.name, copied.parent)):
        assert find(run, runs_dir).path == copied
    monkeypatch.chdir(copied)
    assert find(".", Path("runs")).path == copied


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run=nowhere"], "run='nowhere' is neither the folder of a run"),
        ([], "runs_dir='runs' has no finished trained run, controls apart; make one with: python -m aimv2 train"),
        (["runs_dir=mine"], "python -m aimv2 train runs_dir=mine"),
        (["rum=x"], "unknown key 'rum'. Did you mean 'run'? Allowed: out, run, runs_dir."),
        (["x", "run=y"], "run= is given twice; once is allowed"),
    ],
)
def test_bad_arguments_are_refused_with_what_is_allowed(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=re.escape(message)):
        verify_command(arguments)
    assert list(tmp_path.iterdir()) == []


def remove(name):
    return lambda path: (path / name).unlink()


def overwrite(name, content):
    return lambda path: (path / name).write_bytes(content)


def cut_short(path):
    content = (path / ATTEMPT / "weights.safetensors").read_bytes()
    (path / ATTEMPT / "weights.safetensors").write_bytes(content[: len(content) // 2])


def other_weights(path):
    save_file({"encoder.norm.weight": torch.ones(32)}, path / ATTEMPT / "weights.safetensors")


def with_value(part, key, value):
    def change(path):
        config = json.loads((path / "config.json").read_text())
        config[part][key] = value
        (path / "config.json").write_text(json.dumps(config))

    return change


def other_tokenizer(path):
    (path / ATTEMPT / "tokenizer.json").write_text(CaptionTokenizer.train(["a house", "a tree"], 300).to_json())


BROKEN = {
    "unfinished": (remove("result.json"), "is not finished, and only a finished run has weights"),
    "no config": (remove("config.json"), "is neither the folder of a run nor"),
    "torn config": (overwrite("config.json", b'{"scale"'), "config.json"),
    "config of another version": (with_value("model", "rotary", True), "unknown key 'model.rotary'"),
    "no weights": (remove(f"{ATTEMPT}/weights.safetensors"), "does not hold this run's weights"),
    "torn weights": (cut_short, "does not hold this run's weights"),
    "other weights": (other_weights, "does not hold this run's weights"),
    "no tokenizer": (remove(f"{ATTEMPT}/tokenizer.json"), "its tokenizer.json cannot be read"),
    "other tokenizer": (other_tokenizer, "the data packages changed"),
    "other data": (with_value("data", "fingerprint", "0123456789ab"), "the data packages changed"),
    "untrained": (with_value("budget", "samples", 0), "is no trained run on squares of one size"),
    "native": (with_value("native", "areas", [16]), "is no trained run on squares of one size"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_run_is_refused_in_one_sentence(copied, change, message):
    change(copied)
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        load(find(str(copied), Path("runs")))
    assert "\n" not in str(caught.value)


def test_broken_run_leaves_no_report_and_other_files_are_kept(copied, finished, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(UsageError, match="has files and no report; name another folder"):
        verify_command([f"run={finished.path}", f"out={tmp_path}"])
    with pytest.raises(UsageError, match="out='/proc/nowhere' cannot be written"):
        verify_command([f"run={finished.path}", "out=/proc/nowhere"])
    other_weights(copied)
    with pytest.raises(UsageError, match="does not hold this run's weights"):
        verify_command([f"run={copied}", f"out={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()
    assert capsys.readouterr().out == ""


def test_the_command_has_a_help(capsys):
    assert verify_command(["run=nowhere", "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: python -m aimv2.analysis.verify ")
    assert all(key in printed for key in ("run=", "runs_dir=runs", "out=reports/verify", "debug=true"))
