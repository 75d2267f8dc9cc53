"""Time the loading of made-up shards beside webdataset with torchvision's transforms. Files are in the page cache.

Pictures are JPEGs of the size of photographs, cropped to 224 px. Both loaders draw crops from one distribution and
normalise; ours also cleans and tokenizes captions, and shuffles. A timing includes the start of loader workers.
"""

import io
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.utils.data import DataLoader

from aimv2.base.errors import RunFailedError
from aimv2.base.files import writable_folder
from aimv2.config.data_config import CHECKED, AugmentConfig
from aimv2.config.program import replaced
from aimv2.config.recipes.scales import demo
from aimv2.config.run_config import RunConfig
from aimv2.data.batches.training import TrainBatches, loader
from aimv2.data.prepare import Data, prepare
from aimv2.data.transforms import IMAGENET
from aimv2.datasets.description import read_source
from aimv2.datasets.open import prepare_location
from benchmarks.timing import Cell, Table, Timed, interleaved, relative

OURS, WEBDATASET = "ours", "webdataset"
IMAGE_PX = 224
WORDS = ("red", "green", "blue", "small", "large", "old", "dog", "house", "river", "cup", "street", "two", "near", "a")
NUM_PICTURES = 64  # different ones; samples repeat them
NUM_SHARDS = 4
SIZE = (500, 375)  # width and height of pictures in pixels
OCTAVES = ((2, 60), (8, 50), (32, 30), (128, 12), (400, 6))  # (cells along the width, standard deviation of a level)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class DataOptions(Timed):
    """What to load, and where."""

    batch_size: int = Field(default=64, gt=0, description="images per batch")
    batches: int = Field(default=4, gt=0, description="batches per timing")
    threads: int = Field(default=1, gt=0, description="CPU threads; loader workers have one")
    max_workers: int = Field(default=2, ge=0, description="loader workers: every number from 0 to this")
    folder: str = Field(default=tempfile.gettempdir(), description="where a temporary folder is made")


def measure(options: DataOptions) -> Iterator[Table]:
    writable_folder(options.folder, "folder")
    with tempfile.TemporaryDirectory(prefix="aimv2-benchmark-", dir=Path(options.folder).absolute()) as name:
        yield Table("loading", list(rates(Path(name), options)))


def rates(folder: Path, options: DataOptions) -> Iterator[dict[str, Cell]]:
    """Yield the rates of both loaders, for each number of loader workers."""
    num_images = options.batches * options.batch_size
    shards = write_shards(folder / "pairs", num_images)
    config = run_config(folder, options.batch_size, num_images)
    data = prepare(config.data, config.model.vocab_size)
    augment = config.augment.of(config.data)
    for workers in range(options.max_workers + 1):
        loaders: dict[str, Callable[[], Iterator[Tensor]]] = {
            OURS: partial(load_ours, config, data, workers),
            WEBDATASET: partial(load_webdataset, shards, augment, options.batch_size, workers),
        }
        calls = {name: partial(load_all, name, load, num_images) for name, load in loaders.items()}
        seconds = interleaved(calls, options.repeats)
        for name, seconds_R in seconds.items():
            yield {
                "loader": name,
                "workers": workers,
                "images / s": num_images / float(np.median(seconds_R)),
                "speed of ours / its": relative(seconds_R, seconds[OURS]) if name != OURS else None,
            }


def load_all(name: str, load: Callable[[], Iterator[Tensor]], expected: int) -> None:
    num_images = sum(len(image) for image in load())
    if num_images != expected:
        raise RunFailedError("bug", f"{name} loads {num_images} of {expected} images")


def run_config(folder: Path, batch_size: int, samples: int) -> RunConfig:
    """Return a run on the pairs of a folder, which are indexed; only what its loader computes matters here."""
    values: dict[str, Any] = {
        "data.sources": (str(describe(folder)),),
        "data.cache_dir": str(folder / "cache"),
        "data.dense_fraction": 0.33,
        "data.render_px": IMAGE_PX,
        "model.image_px": IMAGE_PX,
        "model.patch_px": 14,
        "model.max_text_tokens": 64,
        "budget.samples": samples,
        "budget.batch_size": batch_size,
    }
    return replaced(demo(), values)


def load_ours(config: RunConfig, data: Data, workers: int) -> Iterator[Tensor]:
    batches = TrainBatches(config, data.train, data.tokenizer)
    for parts in loader(batches, micro_batch=config.budget.batch_size, num_workers=workers):
        for part in parts:
            yield part.to(torch.device("cpu")).image


def load_webdataset(shards: Sequence[Path], augment: AugmentConfig, batch_size: int, workers: int) -> Iterator[Tensor]:
    """Load images and captions as webdataset documents it: decode whole images with Pillow, transform, and batch."""
    import webdataset as wds
    from torchvision import transforms

    assert augment.min_scale is not None, "the data's own are filled in"
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(
                IMAGE_PX,
                scale=(augment.min_scale, augment.max_scale),
                ratio=(augment.min_ratio, augment.max_ratio),
                interpolation=transforms.InterpolationMode.BICUBIC,
            ),
            transforms.RandomHorizontalFlip(augment.flip_probability),
            transforms.ToTensor(),
            transforms.Normalize(*IMAGENET),
        ]
    )
    dataset = wds.WebDataset([str(path) for path in shards], shardshuffle=False).decode("pil").to_tuple("jpg", "txt")
    batches = dataset.map_tuple(transform, str).batched(batch_size)
    for images, _ in DataLoader(batches, batch_size=None, num_workers=workers):
        yield images


def write_shards(folder: Path, num_samples: int) -> list[Path]:
    """Write pictures with captions of 8 and of 30 words, which start with the number of the sample, so that no two are
    equal, into a new folder, in NUM_SHARDS shards; return the shards."""
    import webdataset as wds

    folder.mkdir()
    generator = np.random.default_rng(0)
    pictures = [photograph(generator) for _ in range(min(num_samples, NUM_PICTURES))]
    pattern, maxcount = str(folder / "%05d.tar"), -(-num_samples // NUM_SHARDS)
    with wds.ShardWriter(pattern, maxcount=maxcount, verbose=0) as writer:
        for number, picture in zip(range(num_samples), itertools.cycle(pictures)):
            short, dense = (" ".join([str(number), *generator.choice(WORDS, size=size - 1)]) for size in (8, 30))
            content = json.dumps({"caption": dense, "width": SIZE[0], "height": SIZE[1]})
            writer.write({"__key__": f"{number:09d}", "jpg": picture, "txt": short, "json": content.encode()})
    return sorted(folder.glob("*.tar"))


def describe(folder: Path) -> Path:
    """Write the description of the shards ``folder/pairs``, index them, and return its path."""
    path = folder / "pairs.yaml"
    fields = {"shards": f"{folder}/pairs/*.tar", "short": "txt", "dense": "json.caption", "held_out": {"fraction": 0.2}}
    path.write_text(json.dumps(fields))  # JSON is YAML
    prepare_location(read_source(path))
    return path


def photograph(generator: np.random.Generator) -> bytes:
    """Return a JPEG of noise with less contrast at finer scales, as in photographs; it takes about 40 kB."""
    width, height = SIZE
    total = np.full((height, width, 3), 128.0)
    for cells, deviation in OCTAVES:
        rows = cells * height // width + 2
        for channel in range(3):
            noise = Image.fromarray(generator.normal(size=(rows, cells)).astype(np.float32))
            total[..., channel] += deviation * np.asarray(noise.resize(SIZE, Image.Resampling.BICUBIC))
    stream = io.BytesIO()
    Image.fromarray(total.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=85)
    return stream.getvalue()
