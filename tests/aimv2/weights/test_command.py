"""``python -m aimv2 weights`` as it is typed."""

import subprocess
import sys

import pytest
from safetensors.torch import load_file

from aimv2.cli import main
from aimv2.weights import read_weights
from aimv2.weights.command import weights_command


def test_import_and_export_say_what_was_read_and_done(foreign, tmp_path, capsys):
    arguments = [f"from={foreign}", f"to={tmp_path / 'ours'}", "image_px=28"]
    assert main(["weights", "import", *arguments]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for said in ("transformers: model.safetensors, float32", "width 128, depth 1, 1 heads", "from 4 x 4 to 2 x 2"):
        assert said in printed
    assert "encoder 0.3 M" in printed
    assert read_weights(tmp_path / "ours").config.image_px == 28
    arguments = [f"from={tmp_path / 'ours'}", f"to={tmp_path / 'there'}", "layout=timm", "debug=true"]
    assert main(["weights", "export", *arguments]) == 0
    assert "(timm, float32)" in " ".join(capsys.readouterr().out.split())
    assert load_file(tmp_path / "there/model.safetensors")["pos_embed"].shape == (1, 4, 128)


def test_what_is_left_behind_is_said(pair, finished_run, tiny, tmp_path, capsys):
    assert weights_command(["import", f"from={pair}", f"to={tmp_path / 'ours'}"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "text tower width 32, depth 2, 2 heads, 50 tokens, texts of 9, meets images in 24 dimensions" in printed
    assert weights_command(["export", f"from={tmp_path / 'ours'}", f"to={tmp_path / 'there'}", "layout=ml-aim"]) == 0
    assert "left behind image_head, similarity, text_tower" in " ".join(capsys.readouterr().out.split())
    run, _ = finished_run(tmp_path / "runs", tiny)
    assert weights_command(["export", f"from={run}", f"to={tmp_path / 'encoder'}"]) == 0
    assert "left behind decoder" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["improt", "from=a", "to=b"], "Did you mean 'import'?"),
        (["import", "form=a", "to=b"], "Did you mean 'from'?"),
        (["import", "to=b"], "from=PATH"),
        (["import", "from=a"], "to=PATH"),
        (["export", "from=", "to="], "from=PATH and to=PATH"),
        (["export", "from=a", "to=b", "image_px=56"], "unknown key 'image_px'"),
        (["import", "from=a", "to=b", "image_px=x"], "image_px"),
        (["import", "from=a", "to=b", "layout=tim"], "Did you mean 'timm'?"),
        (["export", "from=a", "to=b", "layout=auto"], "unknown layout 'auto'"),
        (["import", "from"], "key=value"),
        (["import", "from=a", "from=b", "to=c"], "twice"),
        (["import", "from=/nowhere", "to=b"], "no such file or folder"),
    ],
)
def test_a_mistyped_command_is_refused(arguments, message, refusal):
    assert message in refusal(weights_command, arguments)


def test_what_is_there_already_is_refused_before_anything_is_read(refusal, tmp_path):
    arguments = ["import", "from=/nowhere", f"to={tmp_path}"]
    (tmp_path / "mine.txt").write_text("mine")
    assert "not an empty folder" in refusal(weights_command, arguments)


def test_usage_is_printed_when_asked_for(capsys):
    assert weights_command(["--help"]) == 0
    assert weights_command([]) == 2
    assert capsys.readouterr().out.count("usage: python -m aimv2 weights import") == 2


def test_neither_transformers_nor_timm_is_needed():
    code = "import aimv2.weights.command, sys; print(sorted({'transformers', 'timm'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
