"""A set of handwritten digits in a folder, and networks with random weights."""

from dataclasses import replace

import pytest
import torch
from rich.console import Console
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import Aimv2Config, Aimv2Model, Aimv2VisionConfig, Aimv2VisionModel

from aimv2.config.training_config import ObjectiveConfig
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.datasets.labelled import Shape
from aimv2.objectives.build import build
from aimv2.tools.evaluate.features import Extraction
from aimv2.tools.evaluate.models import load_model
from tests.helpers.finished_runs import finished_run
from tests.helpers.labelled_digits import labelled_digits
from tests.helpers.public_encoders import IMAGE_PX


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


@pytest.fixture(scope="session")
def public_pair(tmp_path_factory):
    """A folder of a public pair of encoders with a tokenizer like CLIP's, and transformers' model."""
    folder = tmp_path_factory.mktemp("public_pair") / "aimv2-tiny-lit"
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    words = ["<start>", "<end>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=words, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["a photo of a digit zero one two three four five six seven eight nine"], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 0), ("<end>", 1)]
    )
    text = {"hidden_size": 32, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 16, "eos_token_id": 1}
    vision = vision_config(use_head=True).to_dict()
    model = randomise(Aimv2Model(Aimv2Config(text_config=text, vision_config=vision, projection_dim=24)))
    model.logit_scale.data.fill_(2.5)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
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
