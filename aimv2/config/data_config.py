"""The data part of a run's config: sources, what scenes show, how pairs become samples, and augmentation."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from aimv2.base.errors import did_you_mean

MAX_PX = 2**13  # far beyond any image here: a typing error is refused before it takes all the memory
CHECKED = ConfigDict(extra="forbid", allow_inf_nan=False)
DESCRIPTIONS = (".yaml", ".yml")  # suffixes of descriptions of sources in files (aimv2/datasets/description.py)

SCENES = "_scenes"  # ends the names of sources of scenes, of which the rest is that of the glyphs
GLYPH_SOURCES = ("material", "fontawesome", "openmoji")
SCENE_SOURCES = tuple(f"{name}{SCENES}" for name in GLYPH_SOURCES)
Kind = Literal["scenes", "glyphs", "files"]


def is_described(source: str) -> bool:
    """True if a source is the path of a description instead of a built-in name."""
    return source.endswith(DESCRIPTIONS)


def source_name(source: str) -> str:
    """Return the name of a source in run names and reports: the built-in name, or that of its description's file."""
    return Path(source).stem if is_described(source) else source


def glyphs_of(source: str) -> str:
    """Return the glyph source that a source shows."""
    return source.removesuffix(SCENES)


def kind_of(source: str) -> Kind:
    """Return the kind of a source."""
    if is_described(source):
        return "files"
    if source in SCENE_SOURCES:
        return "scenes"
    if source in GLYPH_SOURCES:
        return "glyphs"
    known = (*SCENE_SOURCES, *GLYPH_SOURCES)
    raise ValueError(
        f"unknown source {source!r}.{did_you_mean(source, known)} Allowed: {', '.join(known)}, or the path of a"
        " .yaml file that describes your own (docs/data.md)"
    )


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SceneConfig:
    """Scenes: pictures of objects on paper. All sources of scenes share these values.

    Attributes:
        num_scenes: training scenes of each source. More cost nothing, because scenes are drawn when they are read.
        num_objects: objects of each source that training shows.
        num_unseen: further objects, which only the held-out set of unseen objects shows.
        zipf: the r-th object is drawn with a probability proportional to r to the power of minus this, so that rare
            objects exist; 0 makes all equally frequent.
        max_objects: a scene has from one to this many objects, all numbers equally often.
        grid: cells along a side; each object has a cell of its own.
        min_size, max_size: range of an object's side, as a share of its cell's.
        overlap: share of a cell's side by which an object may reach into other cells; later objects cover earlier ones.
        relation_rate: share of dense captions of several objects that give relations in place of places.
        wrong_rate: share of short captions that name an object that is not in the picture.
        noise_rate: share of short captions with two further words that say nothing.
        composition: what of a held-out scene no training scene has: all its objects with these ``inks``, or with these
            ``looks``, their inks, places and sizes. Captions tell inks, so that ``inks`` makes what is held out
            unlikely by its words alone; and if a few objects are frequent, a few compositions are most of what is held
            out.
        seed: another seed gives other scenes.
    """

    num_scenes: int = Field(default=1_000_000, gt=0)
    num_objects: int = Field(default=100, gt=1)
    num_unseen: int = Field(default=20, gt=1)
    zipf: float = Field(default=0.7, ge=0)
    max_objects: int = Field(default=3, gt=0)
    grid: Literal[2, 3] = 2
    min_size: float = Field(default=0.85, gt=0, le=1)
    max_size: float = Field(default=1.0, gt=0, le=1)
    overlap: float = Field(default=0.0, ge=0, lt=0.5)
    relation_rate: float = Field(default=0.5, ge=0, le=1)
    wrong_rate: float = Field(default=0.1, ge=0, le=1)
    noise_rate: float = Field(default=0.2, ge=0, le=1)
    composition: Literal["inks", "looks"] = "inks"
    seed: int = Field(default=0, ge=0)

    def __post_init__(self) -> None:
        if self.min_size > self.max_size:
            raise ValueError(f"min_size={self.min_size} must not exceed max_size={self.max_size}")
        most = min(self.grid**2, self.num_objects, self.num_unseen)
        if self.max_objects > most:
            raise ValueError(
                f"max_objects={self.max_objects} must not exceed the cells of grid={self.grid} ({self.grid**2}),"
                f" num_objects={self.num_objects} and num_unseen={self.num_unseen}"
            )


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class DataConfig:
    """The image-text pairs, and how they become samples.

    Attributes:
        sources: built-in names, or paths of descriptions of pairs in files (docs/data.md), of one kind.
            ``material_scenes``, ``fontawesome_scenes`` and ``openmoji_scenes`` are scenes of these glyphs;
            ``material``, ``fontawesome`` and ``openmoji`` are the glyphs themselves, each a picture with its name.
        weights: share of the training samples that comes from each source, in the order of ``sources``. Weights are
            divided by their sum, and the shares are exact over every 1000 samples. None shows every pair once an epoch.
            Training never shows a source with weight 0, but its held-out pairs are evaluated and the tokenizer knows
            its captions, so that all mixtures are measured alike. (60, 9 and 31 % in the paper's Table 2.)
        canonical_nodes: parts of the training pairs, each of which fills as many images of every batch, one part after
            the other. As many machines then read a part each, and fewer or more machines read the same batches.
        scenes: what scenes show.
        render_px: side at which pictures are rendered; crops are taken from these. For images in files, the side to
            which evaluation resizes their shorter side before it crops the centre; training crops the whole image.
        captions: ``own``, or ``shuffled``: each training sample shows the caption of another training pair, in a new
            permutation every epoch, so that images and captions are independent and each is shown as often as before.
            This is a positive control for studies of captions. By chance, about one sample per epoch shows its own
            caption. Held-out pairs keep theirs.
        pixels: ``own``, or ``shuffled``: in the same way, the pixel loss asks for the patches of another training
            image.
        dense_fraction: probability that a sample shows its dense caption instead of the short one; 0.33 is the paper's
            share of synthetic captions (Table 2). Samples of a source with captions of one kind show that kind.
        dense_fractions: the same for each source, in the order of ``sources``, in place of ``dense_fraction``.
        held_out_fraction: share of the compositions (scenes) or concepts (glyphs) that no training sample shows. A
            description has its own rule.
        max_pixels: images in files with more pixels are bad samples.
        max_bad_rate: share of bad samples above which a run stops.
        tokenizer: path of a ``tokenizer.json``, such as the public SigLIP one; None trains one on training captions.
        cache_dir: folder of rendered glyphs, trained tokenizers, and shards and captions that were fetched from URLs.
        cache_gb: limit for the fetched shards; the least recently used ones are deleted.
        fingerprint: hash of the versions of the data packages, and of the content of sources in files, of
            ``evaluation.sets`` and of a given tokenizer, so that other data names another run;
            ``aimv2.request.resolve`` fills it in.
    """

    sources: tuple[str, ...] = SCENE_SOURCES
    weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    canonical_nodes: int = Field(default=1, gt=0)
    scenes: SceneConfig = SceneConfig()
    render_px: int = Field(default=48, ge=8, le=MAX_PX)
    captions: Literal["own", "shuffled"] = "own"
    pixels: Literal["own", "shuffled"] = "own"
    dense_fraction: float = Field(default=0.33, ge=0, le=1)
    dense_fractions: tuple[Annotated[float, Field(ge=0, le=1)], ...] | None = None
    held_out_fraction: float = Field(default=0.2, gt=0, lt=1)
    max_pixels: int = Field(default=2**26, gt=0, le=178_956_970)  # Pillow's own limit
    max_bad_rate: float = Field(default=0.01, ge=0, le=1)
    tokenizer: str | None = None
    cache_dir: str = "cache"
    cache_gb: float = Field(default=100.0, gt=0)
    fingerprint: str = ""

    @property
    def kind(self) -> Kind:
        """The kind of all sources."""
        return kind_of(self.sources[0])

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sources."""
        return tuple(map(source_name, self.sources))

    @property
    def has_scenes(self) -> bool:
        return self.kind == "scenes"

    def dense_share(self, source: int) -> float:
        """Return the probability of a dense caption in the source of this number."""
        return self.dense_fraction if self.dense_fractions is None else self.dense_fractions[source]

    def as_evaluated(self) -> Self:
        """Return the data with defaults for what concerns training alone: equal for all runs evaluated on the same."""
        default = DataConfig()
        return dataclasses.replace(
            self,
            weights=None,
            canonical_nodes=1,
            captions="own",
            pixels="own",
            dense_fraction=default.dense_fraction,
            dense_fractions=None,
        )

    def __post_init__(self) -> None:
        if not self.sources or len(set(self.sources)) != len(self.sources):
            raise ValueError(f"sources={list(self.sources)} must name at least one source, each once")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"sources={list(self.sources)} have two of the same name; rename the file of one")
        kinds = {kind_of(source) for source in self.sources}
        if len(kinds) > 1:
            why = ", which would show held-out objects in training" if "files" not in kinds else ""
            raise ValueError(
                f"sources={list(self.sources)} mixes {' with '.join(sorted(kinds))}{why}; choose sources of one kind"
            )
        for name, values in (("weights", self.weights), ("dense_fractions", self.dense_fractions)):
            if values is not None and len(values) != len(self.sources):
                raise ValueError(f"{name}={list(values)} must have one value for each of sources={list(self.sources)}")
        weights = self.weights
        if weights is None:
            return
        from aimv2.base.order import BLOCK, quotas  # here, so that helps of commands load fast, without numpy

        if not any(weights):
            raise ValueError(f"weights={list(weights)} must not all be 0")
        for source, weight, quota in zip(self.sources, weights, quotas(weights), strict=True):
            if weight and not quota:
                raise ValueError(
                    f"weights={list(weights)} give {source!r} none of {BLOCK} samples; set its weight to 0 or raise it"
                )


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class AugmentConfig:
    """Bicubic RandomResizedCrop and horizontal flip, and the patches that the encoder does not see.

    Attributes:
        min_scale, flip_probability: None is the data's own: the paper's 0.4 and 0.5 (Table A1); with scenes 0.9 and 0,
            because smaller crops lose objects and flips make places and relations false.
        hidden_fraction: share of the patches, drawn for each sample, that are hidden from the encoder and still pixel
            targets: an effect of known direction for ``sweep=sensitivity``.
    """

    min_scale: float | None = Field(default=None, gt=0, le=1)
    max_scale: float = Field(default=1.0, gt=0, le=1)
    min_ratio: float = Field(default=0.75, gt=0)
    max_ratio: float = Field(default=1.33, gt=0)
    flip_probability: float | None = Field(default=None, ge=0, le=1)
    hidden_fraction: float = Field(default=0.0, ge=0, lt=1)

    def __post_init__(self) -> None:
        if (self.min_scale or 0) > self.max_scale or self.min_ratio > self.max_ratio:
            raise ValueError("min_scale must not exceed max_scale, and min_ratio must not exceed max_ratio")

    def of(self, data: DataConfig) -> "AugmentConfig":
        """Return the augmentation with the data's own values in place of None."""
        min_scale, flip_probability = (0.9, 0.0) if data.has_scenes else (0.4, 0.5)
        return dataclasses.replace(
            self,
            min_scale=min(min_scale, self.max_scale) if self.min_scale is None else self.min_scale,
            flip_probability=flip_probability if self.flip_probability is None else self.flip_probability,
        )
