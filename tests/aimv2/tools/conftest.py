"""Refusals of commands, a set of handwritten digits, and networks with random weights, ours and of other packages."""

import json
import shutil
from dataclasses import replace
from functools import reduce

import pytest
import timm
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import _convert_aimv2
from transformers import Aimv2Config, Aimv2Model, Aimv2VisionConfig, Aimv2VisionModel

from aimv2.base.errors import UsageError
from aimv2.config.training_config import ObjectiveConfig
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.datasets.labelled import Shape
from aimv2.objectives.build import build
from aimv2.tools.features import Extraction, load_model
from tests.helpers.finished_runs import finished_run
from tests.helpers.labelled_digits import IMAGE_PX, labelled_digits

WEIGHTS_PX = 56  # of images in tests of layouts
FFN_HIDDEN = {32: 256, 128: 512, 256: 768, 768: 2048, 1024: 2816, 1536: 4096, 2048: 5632, 3072: 8192}


@pytest.fixture(scope="session")
def refusal():
    """Return the one sentence with which a call is refused."""

    def refused(call, *arguments, **options):
        with pytest.raises(UsageError) as caught:
            call(*arguments, **options)
        message = str(caught.value)
        assert "\n" not in message
        assert "\x1b" not in message
        assert len(message) < 1000
        return message

    return refused


def randomise(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data.uniform_(-0.1, 0.1, generator=generator)
        if parameter.ndim == 1:
            parameter.data.add_(1)
    return module.eval()


def vision_config(**more):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256}
    return Aimv2VisionConfig(**(sizes | {"image_size": IMAGE_PX, "patch_size": 14, "use_head": False} | more))


@pytest.fixture(scope="session")
def public(tmp_path_factory):
    """A folder of a public checkpoint with random weights, and transformers' model."""
    folder = tmp_path_factory.mktemp("public") / "aimv2-tiny"
    model = randomise(Aimv2VisionModel(vision_config()))
    model.save_pretrained(folder)
    return folder, model


@pytest.fixture
def pair(tiny, tmp_path):
    """The folder of a finished run with a text encoder, and its network with random weights."""
    config = replace(tiny, objective=ObjectiveConfig(name="clip"))
    network = randomise(build(config))
    tokenizer = CaptionTokenizer.train(["a photo of a zero one two three four five six seven eight nine"], 300)
    return finished_run(tmp_path / "runs", config, network, tokenizer=tokenizer).path, network


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    return labelled_digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture
def extraction(public, tmp_path):
    """How features of the public encoder are computed."""
    return Extraction(
        model=load_model(public[0]),
        shape=Shape(IMAGE_PX, 0.875, 10**6),
        device="cpu",
        precision="float32",
        cache_dir=tmp_path / "features",
        console=Console(quiet=True),
        batch_size=4,
    )


def make_transformers(folder, width, num_heads, depth, **more):
    sizes = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": num_heads}
    sizes |= {"intermediate_size": FFN_HIDDEN[width], "image_size": WEIGHTS_PX}
    model = randomise(Aimv2VisionModel(vision_config(**(sizes | more))))
    model.save_pretrained(folder)
    return lambda image: model(pixel_values=image).last_hidden_state


def timm_model(width, num_heads, depth, image_px=WEIGHTS_PX, patch_px=14):
    sizes = {"img_size": image_px, "patch_size": patch_px, "embed_dim": width, "num_heads": num_heads, "depth": depth}
    sizes["mlp_ratio"] = (FFN_HIDDEN[width] + 0.5) / width  # timm rounds down
    return randomise(timm.create_model("aimv2_large_patch14_224", num_classes=0, **sizes))


def ml_aim_name(name):
    """Return Apple's name for a name of timm."""
    name = name.replace("patch_embed.", "preprocessor.patchifier.").replace("pos_embed", "preprocessor.pos_embed")
    for number in "12":
        name = name.replace(f".norm{number}.", f".norm_{number}.")
    if name.startswith("blocks."):
        name = f"trunk.{name}"
    if name == "norm.weight":
        name = "trunk.post_trunk_norm.weight"
    return name.replace("mlp.fc1_g", "mlp.fc1").replace("mlp.fc1_x", "mlp.fc3")


def make_ml_aim(folder, width, num_heads, depth):
    model = timm_model(width, num_heads, depth)
    state = {ml_aim_name(name): value for name, value in model.state_dict().items()}
    model.load_state_dict(_convert_aimv2(dict(state), model), strict=True)  # timm reads these names
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    sizes = {"hidden_size": width, "num_attention_heads": num_heads, "num_hidden_layers": depth, "patch_size": 14}
    config = {"model_type": "aimv2", **sizes, "image_size": WEIGHTS_PX, "intermediate_size": FFN_HIDDEN[width]}
    (folder / "config.json").write_text(json.dumps(config))
    return model.forward_features


def load_transformers(folder):
    model, info = Aimv2VisionModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    model.eval()
    return lambda image: model(pixel_values=image).last_hidden_state


def load_ml_aim(folder):
    """Load with timm's converter into timm's model of these sizes."""
    state, config = load_file(folder / "weights.safetensors"), json.loads((folder / "config.json").read_text())
    sizes = ("hidden_size", "num_attention_heads", "num_hidden_layers", "image_size", "patch_size")
    model = timm_model(*(config[key] for key in sizes))
    model.load_state_dict(_convert_aimv2(state, model), strict=True)
    return model.forward_features


@pytest.fixture(scope="session")
def make():
    """By layout: make a folder of an encoder with these sizes, and return the function from images to features."""
    return {"transformers": make_transformers, "ml-aim": make_ml_aim}


@pytest.fixture(scope="session")
def load():
    """By layout: load a folder as its users do, and return the function from images to features."""
    return {"transformers": load_transformers, "ml-aim": load_ml_aim}


@pytest.fixture(scope="session")
def make_pair():
    """Make a folder of transformers' pair of encoders."""

    def make(folder):
        text = {"hidden_size": 32, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}
        text |= {"vocab_size": 50, "max_position_embeddings": 9, "eos_token_id": 7}
        vision = vision_config(hidden_size=128, intermediate_size=512, image_size=WEIGHTS_PX, use_head=True)
        model = Aimv2Model(Aimv2Config(text_config=text, vision_config=vision.to_dict(), projection_dim=24))
        randomise(model).save_pretrained(folder)
        return model

    return make


@pytest.fixture(scope="session")
def templates(tmp_path_factory, make_pair):
    """Folders made once, to be copied: of each layout an encoder of width 128, one head, one block; and a pair."""
    folder = tmp_path_factory.mktemp("templates")
    for name, make in (("transformers", make_transformers), ("ml-aim", make_ml_aim)):
        make(folder / name, 128, 1, 1)
    make_pair(folder / "pair")
    return folder


def copy_of(template):
    """Return a fixture: a copy of this template, which a test may break."""

    @pytest.fixture
    def folder(templates, tmp_path):
        return shutil.copytree(templates / template, tmp_path / f"foreign-{template}")

    return folder


foreign, foreign_ml_aim, foreign_pair = map(copy_of, ("transformers", "ml-aim", "pair"))


@pytest.fixture(scope="session")
def initialised_run():
    """Make a finished run whose weights are initialised, not trained: its folder and its network."""

    def make(runs_dir, config):
        network = build(config).eval()
        return finished_run(runs_dir, config, network).path, network

    return make


@pytest.fixture(scope="session")
def edit_json():
    """Change a config.json in place: ``edit_json(folder, {"encoder.width": 51})``."""

    def edit(folder, changes):
        path = folder / "config.json"
        values = json.loads(path.read_text())
        for key, value in changes.items():
            *sections, last = key.split(".")
            reduce(dict.__getitem__, sections, values)[last] = value
        path.write_text(json.dumps(values))

    return edit
