"""Model cards, read by the parser of the hub, and their examples of use, run as they are."""

import json

import pytest
import torch
import transformers
from huggingface_hub import ModelCard

from aimv2.config.program import replaced
from aimv2.tools.weights.command import weights_command
from tests.helpers.own_data import own_source


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


def use(card, folder):
    """Run the card's example of use and return its model."""
    code = card.partition("```python\n")[2].partition("```")[0]
    namespace = {"transformers": transformers}
    exec(code.replace("FOLDER", str(folder)), namespace)
    return namespace["model"]


def test_metadata_are_those_that_the_hub_reads(exported):
    _, text = exported()
    data = ModelCard(text).data.to_dict()
    assert data["license"] == "other"
    assert data["license_name"]
    assert data["library_name"] == "transformers"
    assert data["datasets"] == ["openmoji_scenes", "fontawesome_scenes"]
    assert data["tags"] == ["aimv2", "vision-encoder", "ablation"]


def test_example_of_use_loads_the_weights(exported, tiny):
    folder, text = exported()
    model = use(text, folder)
    assert type(model).__name__ == "Aimv2VisionModel"
    px = tiny.model.image_px
    assert model(pixel_values=torch.zeros(1, 3, px, px)).last_hidden_state.shape[-1] == tiny.model.encoder.width


def test_one_run_has_its_metrics_and_no_interval(exported):
    manifest = {"code": "c" * 12, "commit": "abc", "versions": {"torch": "2.9"}, "hardware": "a | b"}
    _, text = exported(manifest=manifest)
    assert "| caption_loss | 1 | nats/token | none |" in text
    assert "(n = 1), so there is no interval" in text
    assert f"code {'c' * 12} (commit abc)" in text
    assert r"PyTorch 2.9 on a \| b." in text
    assert "- Omitted: decoder." in text
    assert "Font Awesome Free (CC BY 4.0)" in text


def test_a_run_without_a_manifest_says_what_is_not_recorded(exported):
    assert "code not recorded (commit not recorded)" in exported("ml-aim")[1]


def test_published_weights_keep_the_card_of_their_publisher(foreign, tmp_path):
    assert weights_command(["import", f"from={foreign}", f"to={tmp_path / 'ours'}"]) == 0
    assert weights_command(["export", f"from={tmp_path / 'ours'}", f"to={tmp_path / 'there'}"]) == 0
    assert not (tmp_path / "there/README.md").exists()


def test_own_sources_have_their_licences_and_controls_a_warning(exported, tiny, tmp_path):
    path = own_source(tmp_path, "my_birds", num_pairs=10, licence="CC BY 4.0, by *me*")
    _, text = exported("ml-aim", replaced(tiny, {"data.sources": (path,), "data.captions": "shuffled"}))
    assert r"- my\_birds (CC BY 4.0, by \*me\*)" in text
    assert "this is a control, not a useful model" in text
    assert "rendered by code" not in text
