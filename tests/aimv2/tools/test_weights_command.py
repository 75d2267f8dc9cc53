"""The command: output, omitted parts and bad arguments; and model cards, read by the parser of the hub."""

import json
import subprocess
import sys

import pytest
import torch
import transformers
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from aimv2.cli import main
from aimv2.config.program import replaced
from aimv2.tools.weights_command import weights_command
from tests.helpers.own_data import own_source


def test_import_and_export_print_a_summary(foreign, tmp_path, capsys):
    arguments = [f"from={foreign}", f"to={tmp_path / 'ours'}"]
    assert main(["weights", "import", *arguments]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "transformers: model.safetensors, float32" in printed
    assert "an encoder, 0.3 M parameters: width 128, depth 1, images of 56 px, learned positions" in printed
    arguments = [f"from={tmp_path / 'ours'}", f"to={tmp_path / 'there'}", "layout=ml-aim", "debug=true"]
    assert main(["weights", "export", *arguments]) == 0
    assert f"wrote {tmp_path / 'there'}" in capsys.readouterr().out
    assert load_file(tmp_path / "there/weights.safetensors")["preprocessor.pos_embed"].shape == (1, 16, 128)


def test_omitted_parts_are_printed(foreign_pair, initialised_run, tiny, tmp_path, capsys):
    assert weights_command(["import", f"from={foreign_pair}", f"to={tmp_path / 'ours'}"]) == 0
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
        (["import", "from=/nowhere", "to=/proc"], "not an empty folder"),
    ],
)
def test_bad_arguments_are_refused(arguments, message, refusal):
    assert message in refusal(weights_command, arguments)


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
    code = "import aimv2.tools.weights_command, sys; print(sorted({'transformers', 'timm'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def exported(initialised_run, tiny, tmp_path):
    """Export a run, with a manifest if there is one, and return the folder and its card."""

    def export(layout="transformers", config=tiny, manifest=None):
        run, _ = initialised_run(tmp_path / "runs", config)
        if manifest is not None:
            (run / "attempts/0001/manifest.json").write_text(json.dumps(manifest))
        assert weights_command(["export", f"from={run}", f"to={tmp_path / layout}", f"layout={layout}"]) == 0
        return tmp_path / layout, (tmp_path / layout / "README.md").read_text()

    return export


def test_a_card_has_metadata_of_the_hub_metrics_and_an_example_that_loads_the_weights(exported, tiny):
    manifest = {"code": "c" * 12, "commit": "abc", "versions": {"torch": "2.9"}, "hardware": "a | b"}
    folder, text = exported(manifest=manifest)
    data = ModelCard(text).data.to_dict()
    assert (data["license"], data["library_name"]) == ("other", "transformers")
    assert data["license_name"]
    assert data["datasets"] == ["openmoji_scenes", "fontawesome_scenes"]
    assert data["tags"] == ["aimv2", "vision-encoder", "ablation"]
    for sentence in (
        "| caption_loss | 1 | nats/token | none |",
        "(n = 1), so there is no interval",
        f"code {'c' * 12} (commit abc)",
        r"PyTorch 2.9 on a \| b.",
        "- Omitted: decoder.",
        "Font Awesome Free (CC BY 4.0)",
    ):
        assert sentence in text
    namespace = {"transformers": transformers}
    exec(text.partition("```python\n")[2].partition("```")[0].replace("FOLDER", str(folder)), namespace)
    model, px = namespace["model"], tiny.model.image_px
    assert type(model).__name__ == "Aimv2VisionModel"
    assert model(pixel_values=torch.zeros(1, 3, px, px)).last_hidden_state.shape[-1] == tiny.model.encoder.width


def test_a_run_without_a_manifest_says_what_is_not_recorded(exported):
    assert "code not recorded (commit not recorded)" in exported("ml-aim")[1]


def test_own_sources_have_their_licences_and_controls_a_warning(exported, tiny, tmp_path):
    path = own_source(tmp_path, "my_birds", num_pairs=10, licence="CC BY 4.0, by *me*")
    _, text = exported("ml-aim", replaced(tiny, {"data.sources": (path,), "data.captions": "shuffled"}))
    assert r"- my\_birds (CC BY 4.0, by \*me\*)" in text
    assert "this is a control, not a useful model" in text
    assert "rendered by code" not in text
