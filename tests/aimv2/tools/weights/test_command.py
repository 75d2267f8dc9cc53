"""The command: output, omitted parts, and bad arguments."""

import subprocess
import sys

import pytest
from safetensors.torch import load_file

from aimv2.cli import main
from aimv2.tools.weights.command import weights_command


def test_import_and_export_print_a_summary(foreign, tmp_path, capsys):
    arguments = [f"from={foreign}", f"to={tmp_path / 'ours'}"]
    assert main(["weights", "import", *arguments]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for sentence in (
        "transformers: model.safetensors, float32",
        "an encoder, 0.3 M parameters: width 128, depth 1, images of 56 px, learned positions",
    ):
        assert sentence in printed
    arguments = [f"from={tmp_path / 'ours'}", f"to={tmp_path / 'there'}", "layout=ml-aim", "debug=true"]
    assert main(["weights", "export", *arguments]) == 0
    assert f"wrote {tmp_path / 'there'}" in capsys.readouterr().out
    assert load_file(tmp_path / "there/weights.safetensors")["preprocessor.pos_embed"].shape == (1, 16, 128)


def test_omitted_parts_are_printed(pair, initialised_run, tiny, tmp_path, capsys):
    assert weights_command(["import", f"from={pair}", f"to={tmp_path / 'ours'}"]) == 0
    omitted = "omitted: logit_scale, text_model, text_projection, visual_projection: of a pair, only the image encoder"
    assert f"{omitted} is read; head.cls_token, head.k_proj.weight" in capsys.readouterr().out
    run, _ = initialised_run(tmp_path / "runs", tiny)
    assert weights_command(["export", f"from={run}", f"to={tmp_path / 'encoder'}"]) == 0
    assert "omitted: decoder" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["improt", "from=a", "to=b"], "Did you mean 'import'?"),
        (["import", "form=a", "to=b"], "Did you mean 'from'?"),
        (["import", "to=b"], "from=PATH"),
        (["import", "from=a"], "to=FOLDER"),
        (["export"], "from=PATH and to=FOLDER"),
        (["export", "from=a", "to=b", "image_px=56"], "unknown key 'image_px'"),
        (["export", "from=a", "to=b", "layout=ml-aims"], "Did you mean 'ml-aim'?"),
        (["import", "from=/nowhere", "to=b"], "no such file or folder"),
    ],
)
def test_bad_arguments_are_refused(arguments, message, refusal):
    assert message in refusal(weights_command, arguments)


def test_target_that_exists_is_refused_before_reading(refusal, tmp_path):
    arguments = ["import", "from=/nowhere", f"to={tmp_path}"]
    (tmp_path / "mine.txt").write_text("mine")
    assert "not an empty folder" in refusal(weights_command, arguments)


def test_help_prints_the_usage(capsys):
    assert weights_command(["--help"]) == 0
    assert weights_command([]) == 2
    assert capsys.readouterr().out.count("usage: python -m aimv2 weights import") == 2
    assert weights_command(["export", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "weights import [" not in printed
    assert "from=PATH" in printed


@pytest.mark.exhaustive
def test_neither_transformers_nor_timm_is_imported():
    code = "import aimv2.tools.weights.command, sys; print(sorted({'transformers', 'timm'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
