"""Refusals of commands, a set of handwritten digits in a folder, and networks with random weights."""

from dataclasses import replace

import pytest
import torch
from rich.console import Console
from transformers import Aimv2VisionConfig, Aimv2VisionModel

from aimv2.base.errors import UsageError
from aimv2.config.training_config import ObjectiveConfig
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.datasets.labelled import Shape
from aimv2.objectives.build import build
from aimv2.tools.features import Extraction, load_model
from tests.helpers.finished_runs import finished_run
from tests.helpers.labelled_digits import labelled_digits
from tests.helpers.public_encoders import IMAGE_PX


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
