"""The command: output, exit status, report, and bad arguments."""

import json
import re
import runpy
import sys

import pytest
from safetensors.torch import save_file

from aimv2.analysis.verify.balance import END, TRAINING
from aimv2.analysis.verify.captions import IMAGE, UNIGRAM
from aimv2.analysis.verify.command import verify_command
from aimv2.analysis.verify.masks import DECODER, ENCODER
from aimv2.analysis.verify.pixels import NAME as PIXELS
from aimv2.analysis.verify.prefix import NAME as PREFIX
from aimv2.base.errors import UsageError
from aimv2.config.arguments import guarded
from aimv2.config.recipes.scales import SCALES
from aimv2.model.network import build

CHECKS = [PREFIX, ENCODER, DECODER, TRAINING, END, PIXELS, UNIGRAM, IMAGE]
PICTURES = {
    "figures/balance.svg",
    "figures/prefix_lengths.svg",
    "pixels.png",
    *(f"example_{n:02d}.png" for n in range(1, 9)),
}


@pytest.mark.exhaustive
def test_trained_run_passes_and_its_report_is_complete(finished, tmp_path, capsys):
    out = tmp_path / "reports" / "verify"
    assert verify_command([str(finished.path), f"out={out}"]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^PASS  (.*?):", printed, flags=re.M) == CHECKS
    assert not re.search(r"^FAIL", printed, flags=re.M)
    assert "\n8 checks: 8 PASS, 0 FAIL.\n" in printed
    assert "short" not in printed
    assert f"report: {out / 'report.md'}" in printed

    text = (out / "report.md").read_text() + (out / "report.md").read_text()
    assert set(re.findall(r"!\[[^]]*\]\(([^)]*)\)", text)) == PICTURES
    assert {path.name for path in out.iterdir()} >= {"report.md", "report.html", "report.json", "pixels.png"}
    for line in printed.splitlines():
        if line.startswith("PASS"):
            assert line.split(": ", 1)[1].split(" (criterion")[0] in text
    assert finished.name in text
    assert f"python -m aimv2.analysis.verify {finished.path} out={out}" in text
    config = json.loads(re.search(r"```json\n(.*?)```", text, flags=re.S)[1])
    assert config["model"]["image_px"] == 16
    assert not list(out.parent.glob(".*")), "nothing is left beside it"


@pytest.mark.exhaustive
def test_random_weights_fail_in_output_and_report(copied, trained, tmp_path, capsys):
    save_file(build(trained).state_dict(), copied / "attempts/0001/weights.safetensors")
    assert verify_command([f"run={copied}", f"out={tmp_path / 'out'}"]) == 1
    printed = capsys.readouterr().out
    assert re.findall(r"^FAIL  (.*?):", printed, flags=re.M) == [PIXELS, UNIGRAM, IMAGE]
    assert "\n8 checks: 5 PASS, 3 FAIL.\nThe run is short: it has seen 6,400 samples." in printed
    recipe = SCALES["demo"]().budget.samples
    assert f"`python -m aimv2 train scale=demo objective.name=aimv2`, which sees {recipe:,}." in printed
    assert (tmp_path / "out" / "report.md").read_text().count("**FAIL**") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run=nowhere"], "run='nowhere' is not a run"),
        (["nowhere"], "run='nowhere' is not a run"),
        ([], "runs_dir='runs' has no finished trained run, controls apart; make one with: python -m aimv2 train"),
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


def test_broken_run_leaves_no_report(copied, tmp_path):
    (copied / "attempts/0001/weights.safetensors").unlink()
    with pytest.raises(UsageError, match="does not hold this run's weights"):
        verify_command([f"run={copied}", f"out={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()


def test_folder_that_cannot_be_written_or_has_other_files_is_refused_before_the_checks(finished, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(UsageError, match="has files and no report; name another folder"):
        verify_command([f"run={finished.path}", f"out={tmp_path}"])
    with pytest.raises(UsageError, match="out='/proc/nowhere' cannot be written"):
        verify_command([f"run={finished.path}", "out=/proc/nowhere"])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_printed_and_nothing_else_done(flag, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert guarded(verify_command, ["run=nowhere", flag]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: python -m aimv2.analysis.verify ")
    assert all(key in printed for key in ("run=", "runs_dir=runs", "out=reports/verify", "debug=true"))
    assert list(tmp_path.iterdir()) == []


def test_module_is_a_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["verify", "runs_dir=none"])
    with pytest.raises(SystemExit) as exited:
        runpy.run_module("aimv2.analysis.verify", run_name="__main__")
    assert exited.value.code == 2
    assert capsys.readouterr().err.startswith("error: runs_dir='none' has no finished trained run")
