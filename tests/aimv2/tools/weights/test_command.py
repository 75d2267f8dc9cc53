"""The command: output, omitted parts, and bad arguments."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from aimv2.cli import main
from aimv2.tools.weights import read_weights
from aimv2.tools.weights.command import weights_command


def test_import_and_export_print_a_summary(foreign, tmp_path, capsys):
    arguments = [f"from={foreign}", f"to={tmp_path / 'ours'}", "image_px=28"]
    assert main(["weights", "import", *arguments]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for sentence in (
        "transformers: model.safetensors, float32",
        "width 128, depth 1, 1 head, FFN 512",
        "from 4 x 4 to 2 x 2",
    ):
        assert sentence in printed
    assert "encoder 0.3 M" in printed
    assert read_weights(tmp_path / "ours").config.image_px == 28
    arguments = [f"from={tmp_path / 'ours'}", f"to={tmp_path / 'there'}", "layout=timm", "debug=true"]
    assert main(["weights", "export", *arguments]) == 0
    assert "(timm, float32)" in " ".join(capsys.readouterr().out.split())
    assert load_file(tmp_path / "there/model.safetensors")["pos_embed"].shape == (1, 4, 128)


def test_omitted_parts_are_printed(pair, initialised_run, tiny, tmp_path, capsys):
    assert weights_command(["import", f"from={pair}", f"to={tmp_path / 'ours'}"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "text tower width 32, depth 2, 2 heads, 50 tokens, texts of 9, shares 24 dimensions with images" in printed
    assert weights_command(["export", f"from={tmp_path / 'ours'}", f"to={tmp_path / 'there'}", "layout=ml-aim"]) == 0
    assert "omitted image_head, similarity, text_tower" in " ".join(capsys.readouterr().out.split())
    run, _ = initialised_run(tmp_path / "runs", tiny)
    assert weights_command(["export", f"from={run}", f"to={tmp_path / 'encoder'}"]) == 0
    assert "omitted decoder" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["improt", "from=a", "to=b"], "Did you mean 'import'?"),
        (["import", "form=a", "to=b"], "Did you mean 'from'?"),
        (["import", "to=b"], "from=PATH"),
        (["import", "from=a"], "to=FOLDER"),
        (["export"], "from=PATH and to=FOLDER"),
        (["export", "from=a", "to=b", "image_px=56"], "unknown key 'image_px'"),
        (["import", "from=a", "to=b", "layout=tim"], "Did you mean 'timm'?"),
        (["export", "from=a", "to=b", "layout=auto"], "layout: Input should be 'transformers', 'timm' or 'ml-aim'"),
        (["import", "from=/nowhere", "to=b"], "no such file or folder"),
    ],
)
def test_bad_arguments_are_refused(arguments, message, refusal):
    assert message in refusal(weights_command, arguments)


def test_target_that_exists_is_refused_before_reading(refusal, tmp_path):
    arguments = ["import", "from=/nowhere", f"to={tmp_path}"]
    (tmp_path / "mine.txt").write_text("mine")
    assert "not an empty folder" in refusal(weights_command, arguments)


@pytest.mark.parametrize("action", ["import", "export"])
def test_every_mismatching_name_is_printed(action, foreign, refusal, tmp_path, capsys):
    folder, file, norm = foreign, "model.safetensors", "encoder.layers.0.rms_norm1.weight"
    if action == "export":
        assert weights_command(["import", f"from={foreign}", f"to={tmp_path / 'ours'}"]) == 0
        folder, file, norm = tmp_path / "ours", "weights.safetensors", "encoder.blocks.0.norm1.weight"
    state = {name: value.clone() for name, value in load_file(folder / file).items()}
    missing = [name for name in state if "ffn" in name or "atten" in name or "norm2" in name or ".attn." in name]
    assert len(missing) > 3
    unexpected = [f"more.{i}.[red]:smile:\x1b[31m\n" + "x" * 300 for i in range(5)]
    for name in missing:
        del state[name]
    state |= {name: torch.zeros(1) for name in unexpected}
    state[norm] = torch.zeros(129)
    save_file(state, folder / file)
    capsys.readouterr()

    message = refusal(weights_command, [action, f"from={folder}", f"to={tmp_path / 'new'}"])
    assert f"{len(missing)} missing (" in message
    assert "5 unexpected (" in message
    printed = capsys.readouterr()
    assert printed.out == ""
    kinds, kind = {}, None
    for line in printed.err.splitlines():
        if line.startswith("  "):
            kinds[kind].append(line[2:])
        else:
            kind = line
            kinds[kind] = []
    assert list(kinds) == ["missing:", "unexpected:", "of another shape:"]
    assert sorted(kinds["missing:"]) == sorted(f"'{name}'" for name in missing)
    escaped = [name.replace("\x1b", r"\x1b").replace("\n", r"\n") for name in unexpected]
    assert sorted(kinds["unexpected:"]) == [f"'{name}'" for name in escaped]
    assert kinds["of another shape:"] == [f"'{norm}' [129], expected [128]"]


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
