"""The command: output, exit status, report for several kinds of runs, and bad arguments."""

import re
import runpy
import sys

import pytest
from safetensors.torch import save_file

from aimv2.analysis.document.write import write
from aimv2.analysis.verify.checks import checks_of
from aimv2.analysis.verify.__main__ import document, summary, verify_command
from aimv2.base.errors import UsageError
from aimv2.config.arguments import guarded
from aimv2.config.recipes.scales import SCALES
from aimv2.objectives.build import build
from tests.helpers.pages import ROOT

REPORT = ROOT / "reports" / "published" / "prefix_distribution"


def test_trained_run_passes_and_its_report_is_complete(finished, tmp_path, capsys):
    out = tmp_path / "reports" / "verify"
    assert verify_command([str(finished.path), f"out={out}", f"report={REPORT}"]) == 0
    printed = capsys.readouterr().out
    assert len(re.findall(r"^PASS  ", printed, flags=re.M)) == 8
    assert "\n8 checks: 8 PASS, 0 FAIL, 0 NOT APPLICABLE.\n" in printed
    assert f"report: {out / 'report.md'}" in printed
    text = (out / "report.md").read_text()
    for line in printed.splitlines():
        if line.startswith("PASS"):
            assert line.split(": ", 1)[1].split(" (criterion")[0] in text
    assert {path.name for path in out.iterdir()} == {"report.md", "report.html", "report.json", "predictions.png"}
    assert "(predictions.png)" in text
    assert f"python -m aimv2.analysis.verify {finished.path} out={out}" in text
    assert not list(out.parent.glob(".*")), "nothing is left beside it"


def test_random_weights_fail_in_output_and_report(copied, trained, tmp_path, capsys):
    save_file(build(trained).state_dict(), copied / "attempts/0001/weights.safetensors")
    assert verify_command([f"run={copied}", f"out={tmp_path / 'out'}", f"report={REPORT}"]) == 1
    printed = capsys.readouterr().out
    assert re.findall(r"^FAIL  (.*?):", printed, flags=re.M) == [
        "predicted pixels beat each patch's mean",
        "captions depend on their image",
    ]
    assert "\n8 checks: 6 PASS, 2 FAIL, 0 NOT APPLICABLE. The run is short: it has seen 6,400 samples." in printed
    recipe = SCALES["demo"]().budget.samples
    assert f"`python -m aimv2 train scale=demo objective.name=aimv2`, which sees {recipe:,}." in printed
    assert (tmp_path / "out" / "report.md").read_text().count("**FAIL**") == 2


@pytest.mark.parametrize(
    ("kind", "has_pictures"),
    [
        ({"objective": {"name": "clip"}, "encoder": {"attention": "auto"}}, False),
        ({"objective": {"name": "image_only"}}, True),
        ({"objective": {"pixel_targets": "raw", "supervise_eos": True}, "model": {"patch_order": "spiral"}}, True),
    ],
)
def test_every_kind_of_run_has_a_report(variant, tmp_path, kind, has_pictures):
    run = variant(**kind)
    checks = checks_of(run, REPORT)
    num_absent = [check.verdict for check in checks].count("NOT APPLICABLE")
    assert f", {num_absent} NOT APPLICABLE." in summary(run, checks)
    path = write(document(run, checks, []), tmp_path / "out")
    assert ("](predictions.png)" in path.read_text()) == has_pictures == (path.parent / "predictions.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run=nowhere"], "run='nowhere' is neither the folder of a run"),
        ([], "runs_dir='runs' has no finished trained run, controls apart; make one with: python -m aimv2 train"),
        (["runs_dir=mine"], "python -m aimv2 train runs_dir=mine"),
        (["rum=x"], "unknown key 'rum'. Did you mean 'run'? Allowed: out, report, run, runs_dir."),
        (["x", "run=y"], "run= is given twice; once is allowed"),
        (["out=x", "y"], "cannot read 'y': arguments have the form key=value"),
    ],
)
def test_bad_arguments_are_refused_with_what_is_allowed(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=re.escape(message)):
        verify_command(arguments)
    assert list(tmp_path.iterdir()) == []


def test_broken_run_leaves_no_report_and_other_files_are_kept(copied, finished, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(UsageError, match="has files and no report; name another folder"):
        verify_command([f"run={finished.path}", f"out={tmp_path}"])
    with pytest.raises(UsageError, match="out='/proc/nowhere' cannot be written"):
        verify_command([f"run={finished.path}", "out=/proc/nowhere"])
    (copied / "attempts/0001/weights.safetensors").unlink()
    with pytest.raises(UsageError, match="does not hold this run's weights"):
        verify_command([f"run={copied}", f"out={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()
    assert capsys.readouterr().out == ""


def test_module_is_a_command_with_a_help(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert guarded(verify_command, ["run=nowhere", "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: python -m aimv2.analysis.verify ")
    assert all(key in printed for key in ("run=", "runs_dir=runs", "out=reports/verify", "debug=true"))
    monkeypatch.setattr(sys, "argv", ["verify", "runs_dir=none"])
    with pytest.raises(SystemExit) as exited:
        runpy.run_module("aimv2.analysis.verify", run_name="__main__")
    assert exited.value.code == 2
    assert capsys.readouterr().err.startswith("error: runs_dir='none' has no finished trained run")
