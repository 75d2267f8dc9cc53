"""A set of handwritten digits in a folder, public checkpoints with random weights, and in-memory records."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from aimv2.base import address
from aimv2.base.errors import BadSampleError
from aimv2.data.decode import square
from aimv2.datasets.description import Location, read_labelled
from aimv2.datasets.images import Shape
from aimv2.datasets.open import prepare_location
from aimv2.datasets.records import Part, Records
from aimv2.tools.evaluate.encoding.features import Extraction, Split
from aimv2.tools.evaluate.encoding.models import load_model
from PIL import Image
from sklearn.datasets import load_digits
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import Aimv2Config, Aimv2Model, Aimv2VisionConfig, Aimv2VisionModel

from tests.helpers.public_encoders import IMAGE_PX

NUM_DIGITS = 160


class MemoryRecords(Records):
    """Records in memory: PNG files, and a dict of fields for each; None in place of a file is a missing image."""

    def __init__(self, files, fields=None):
        self._files, self._fields = files, fields or [{} for _ in files]
        self.block_rows = len(files)

    def __len__(self):
        return len(self._files)

    def key(self, row):
        return f"key-{row}"

    def key_hashes(self, row_B):
        return np.array([address.hash64(self.key(row)) for row in row_B.tolist()], dtype=np.uint64)

    def image(self, row):
        if self._files[row] is None:
            raise BadSampleError("missing image", self.key(row))
        return self._files[row]

    def field(self, row, name):
        value = self._fields[row].get(name)
        if isinstance(value, Exception):
            raise value
        return value

    def parts(self):
        return [Part("memory", len(self), sum(len(file or b"") for file in self._files))]


def png(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


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
def memory_records():
    return MemoryRecords


@pytest.fixture(scope="session")
def as_png():
    return png


@pytest.fixture(scope="session")
def pictures():
    """Ten random pictures of different sizes, smooth so that resizing methods can be told apart."""
    generator = np.random.default_rng(0)
    sizes = [(40 + 7 * n, 60 - 3 * n) for n in range(10)]
    pictures = []
    for size in sizes:
        small = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        pictures.append(np.asarray(small.resize(size, Image.Resampling.BICUBIC)))
    return pictures


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


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """The description of 160 handwritten digits in folders of classes, indexed; the test has 40 with a caption each."""
    folder = tmp_path_factory.mktemp("digits")
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    bunch = load_digits()
    rows = {"train": [], "test": []}
    for number in range(NUM_DIGITS):
        split, digit = "test" if number % 4 == 0 else "train", str(bunch.target[number])
        path = Path(digit) / f"{number:04d}.png"
        (folder / split / digit).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(np.rint(bunch.images[number] * (255 / 16)).astype(np.uint8))
        picture.resize((IMAGE_PX, IMAGE_PX), Image.Resampling.BICUBIC).save(folder / split / path)
        rows[split].append({"image": str(path), "caption": f"the digit {names[int(digit)]}"})
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows["test"]))
    description = {
        "train": {"folder": "train"},
        "test": {"folder": "test", "table": "test.jsonl"},
        "name": "written",
        "label": "folder",
        "captions": "caption",
        "classes": {str(number): name for number, name in enumerate(names)},
        "prompts": ["a photo of a {}", "a {}"],
    }
    path = folder / "written.yaml"
    path.write_text(yaml.safe_dump(description))
    described = read_labelled(path)
    for location in (described.train, described.test):
        prepare_location(location)
    return path


@pytest.fixture
def extraction(public, tmp_path):
    """How features of the public encoder are computed."""
    return Extraction(
        model=load_model(public[0]),
        shape=Shape(IMAGE_PX, 0.875, 10**6),
        device="cpu",
        precision="float32",
        cache_dir=tmp_path / "features",
        decode=square,
        batch_size=4,
    )


@pytest.fixture
def split(pictures):
    """A split of these pictures."""
    return Split("test", Location(folder="memory"), MemoryRecords([png(picture) for picture in pictures]))
