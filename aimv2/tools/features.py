"""The frozen network that ``evaluate`` measures, and its features of images and texts.

Features of all images of a location are computed once and saved, by weights and data. ``patches`` are the encoder's
features of each patch, which the attentive probe reads. There are hundreds for each image, so they are float16: after
the final norm their rounding is below that of bfloat16 computation, and half the disk is saved. ``mean`` is the mean
over patches and ``embedding`` the unit vector of a pair of encoders; both are small, and float32.

Letters: N rows, B images of a batch, I patches, D width, M texts, T tokens, S width of the space of images and texts.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.format import open_memmap
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.base.files import read_object, replacing, write_json
from aimv2.data.batches.training import loaded
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transforms import network_input
from aimv2.datasets.description import Location
from aimv2.datasets.labelled import Shape, Unusable, check_rate, picture_batch
from aimv2.datasets.records import Records
from aimv2.datasets.selection import excluded_digest
from aimv2.evaluation.features import encode_batch
from aimv2.model.dual_encoder import DualEncoder
from aimv2.model.network import Network
from aimv2.objectives.build import build_empty
from aimv2.request.origin import read_origin
from aimv2.runs.tensor_file import check_finite
from aimv2.tools.options import FeatureKind
from aimv2.tools.weights import (
    AS_TRAINED,
    Preprocessing,
    network_of,
    read_preprocessing,
    read_published,
    read_tensors,
    read_weights,
    with_tensors,
)
from aimv2.tools.weights_layouts import Weights, WeightsConfig
from aimv2.training.device import autocast

VERSION = 1  # of what is computed; another number makes other folders
UNUSABLE = "bad.json"
DTYPES: dict[FeatureKind, type[np.floating]] = {"patches": np.float16, "mean": np.float32, "embedding": np.float32}


@dataclass(frozen=True, eq=False)
class Model:
    """A network to evaluate."""

    name: str
    network: Network  # of a run with both encoders these, else that of images
    config: WeightsConfig
    digest: str  # of the tensors and of the sizes, equal for the same weights in any layout
    tokenizer: CaptionTokenizer | None  # of the text encoder of a run; else None, and no texts can be read
    preprocessing: Preprocessing = AS_TRAINED

    @property
    def pair(self) -> DualEncoder | None:
        """Both encoders; None if there is only one for images."""
        return self.network if isinstance(self.network, DualEncoder) else None


def load_model(path: Path) -> Model:
    """Load the network of a finished run, of a folder of ``weights import``, or of a public checkpoint."""
    if not path.exists():
        raise UsageError(f"weights={str(path)!r}: there is no such file or folder")
    description = path / "config.json"
    is_ours = description.is_file() and bool({"budget", "layout_version"} & read_object(description).keys())
    weights = read_weights(path) if is_ours else read_published(path)
    network, tokenizer = (_run_pair(path, weights) if is_ours else None) or (network_of(weights), None)
    digest = _digest(weights.config, network.state_dict())
    preprocessing = read_preprocessing(path) or AS_TRAINED
    return Model(path.resolve().name, network, weights.config, digest, tokenizer, preprocessing)


def _run_pair(path: Path, weights: Weights) -> tuple[Network, CaptionTokenizer] | None:
    """Return both encoders and the tokenizer of a run that trained a text encoder; its weights have been checked."""
    origin = read_origin(str(path), "weights")
    if origin.run is None or "text_tower" not in origin.parts:
        return None
    try:
        tensors = read_tensors(origin.file) | weights.tensors
        check_finite(origin.file, tensors)
        network = with_tensors(build_empty(origin.run), tensors)
    except RuntimeError as error:
        raise UsageError(f"{path}: the tensors are not those of the run's config: {error}") from error
    return network, CaptionTokenizer.load(origin.tokenizer)


def _digest(config: WeightsConfig, tensors: Mapping[str, Tensor]) -> str:
    sizes = {key: value for key, value in asdict(config).items() if key != "source"}
    whole = hashlib.sha256(json.dumps(sizes, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        whole.update(f"{name} {tuple(value.shape)}".encode())
        whole.update(value.detach().cpu().contiguous().numpy().data)
    return whole.hexdigest()


class Split(NamedTuple):
    name: str
    location: Location
    records: Records


class Saved(NamedTuple):
    features: dict[FeatureKind, Tensor]  # of all rows of a split, memory-mapped
    unusable: list[Unusable]


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """How features are computed, where they are saved, and where progress is shown."""

    model: Model
    shape: Shape
    device: str
    precision: str
    cache_dir: Path
    console: Console
    batch_size: int = 64
    workers: int = 0
    max_bad_rate: float = 0.01  # share of unusable images above which an error is raised

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show how much of some work is done; yields a function that adds to it."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        # Drawn rarely, because the thread that draws takes time from the computation.
        shown = Progress(*columns, console=self.console, refresh_per_second=2, disable=self.console.quiet)
        with shown:
            task = shown.add_task(title, total=total)
            yield lambda number: shown.advance(task, number)

    def folder(self, split: Split, kinds: Sequence[FeatureKind]) -> Path:
        """Return where features of a split are: a folder named by weights, data, computation and kinds."""
        location = {key: value for key, value in asdict(split.location).items() if key in ("image", "filters")}
        location["excluded"] = excluded_digest(split.location)
        computation: dict[str, Any] = {"shape": self.shape, "colours": self.model.preprocessing.colours, "kinds": kinds}
        computation |= {"precision": self.precision, "device": self.device, "version": VERSION}
        identity = {"weights": self.model.digest, "parts": split.records.parts(), **location, **computation}
        return self.cache_dir / hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:20]

    def array_shape(self, split: Split, kind: FeatureKind) -> tuple[int, ...]:
        num_rows, width = len(split.records), self.model.config.encoder.width
        if kind == "embedding":
            assert self.model.pair is not None, "only a pair of encoders is asked for embeddings"
            return num_rows, self.model.pair.text_tower.proj.out_features
        return (num_rows, width) if kind == "mean" else (num_rows, self.model.config.model.num_patches, width)


def check_room(extraction: Extraction, wanted: Sequence[tuple[Split, Sequence[FeatureKind]]]) -> None:
    """Print the size of the features that are missing; a UsageError if the disk has less room."""
    missing = [(split, kinds) for split, kinds in wanted if not extraction.folder(split, kinds).exists()]
    folder, free = extraction.cache_dir, shutil.disk_usage(extraction.cache_dir).free
    size = sum(
        int(np.prod(extraction.array_shape(split, kind))) * np.dtype(DTYPES[kind]).itemsize
        for split, kinds in missing
        for kind in kinds
    )
    num_images = sum(len(split.records) for split, _ in missing)
    text = f"features of {num_images:,} images take {gigabytes(size)} in {folder} ({gigabytes(free)} free)"
    if size > free:
        raise UsageError(
            f"{text}; choose another cache_dir=, or methods=[linear,knn], which need no features of patches"
        )
    text = text if size else f"features: all saved in {folder}"
    extraction.console.print(text, highlight=False, soft_wrap=True)


def gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def saved(extraction: Extraction, split: Split, kinds: Sequence[FeatureKind]) -> Saved:
    folder = extraction.folder(split, kinds)
    if not folder.exists():
        _compute(extraction, split, kinds, folder)
    unusable = [Unusable(*row) for row in json.loads((folder / UNUSABLE).read_text())]
    check_rate(unusable, len(split.records), extraction.max_bad_rate, split.name)
    # Copy on write, because torch takes no read-only arrays; nothing writes.
    arrays = {kind: torch.from_numpy(np.load(folder / f"{kind}.npy", mmap_mode="c")) for kind in kinds}
    return Saved(arrays, unusable)


def _compute(extraction: Extraction, split: Split, kinds: Sequence[FeatureKind], folder: Path) -> None:
    num_rows = len(split.records)
    size, read = extraction.batch_size, partial(picture_batch, split.records, extraction.shape)
    batches = [range(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]
    unusable, done = list[Unusable](), 0
    with replacing(folder) as unfinished, extraction.progress(f"encoding {split.name}", num_rows) as advance:
        unfinished.mkdir(parents=True)
        arrays = {
            kind: open_memmap(
                unfinished / f"{kind}.npy", mode="w+", dtype=DTYPES[kind], shape=extraction.array_shape(split, kind)
            )
            for kind in kinds
        }
        is_pinned = extraction.device == "cuda"
        for batch in loaded(read, batches, num_workers=extraction.workers, pin_memory=is_pinned):
            unusable += batch.unusable
            check_rate(unusable, num_rows, extraction.max_bad_rate, split.name)
            number = len(batch.images)
            for kind, value in encoded(extraction, batch.images, kinds).items():
                array = (value.half() if kind == "patches" else value).cpu().numpy()
                if not np.isfinite(array).all():
                    raise RunFailedError("data", f"{kind} features of {split.name} are not finite in {array.dtype}")
                arrays[kind][done : done + number] = array
            done += number
            advance(number)
        for array in arrays.values():
            array.flush()
        write_json(unfinished / UNUSABLE, unusable)


@torch.no_grad()
def encoded(extraction: Extraction, images: Tensor, kinds: Sequence[FeatureKind]) -> dict[FeatureKind, Tensor]:
    """Return features of images, uint8 [B, P, P, 3], with full attention in the encoder: float32 each."""
    model = extraction.model
    image = network_input(images.to(extraction.device, non_blocking=True), model.preprocessing.colours)
    feature_BID = encode_batch(model.network.encoder, image, extraction)
    features: dict[FeatureKind, Tensor] = {"patches": feature_BID, "mean": feature_BID.mean(dim=1)}
    if "embedding" in kinds:
        assert model.pair is not None, "only a pair of encoders is asked for embeddings"
        with autocast(extraction):
            features["embedding"] = F.normalize(model.pair.image_head(feature_BID).float(), dim=-1)
    return {kind: features[kind] for kind in kinds}


@torch.no_grad()
def embed_texts(extraction: Extraction, texts: Sequence[str], batch_size: int = 256) -> Tensor:
    """Return the unit vectors of texts: float32 [M, S] on the extraction's device."""
    pair, tokenizer, device = extraction.model.pair, extraction.model.tokenizer, extraction.device
    assert pair is not None, "a text encoder"
    assert tokenizer is not None, "which has a tokenizer"
    vectors = []
    with extraction.progress("encoding texts", len(texts)) as advance:
        for start in range(0, len(texts), batch_size):
            token_BT = tokenizer.encode(texts[start : start + batch_size], len(pair.text_tower.text_pos_embed))
            length_B = torch.from_numpy(tokenizer.lengths(token_BT))
            with autocast(extraction):
                vectors.append(pair.embed_texts(torch.from_numpy(token_BT).to(device), length_B.to(device)))
            advance(len(token_BT))
    return torch.cat(vectors)
