"""Samples at their places in a run, with others in the place of bad ones. Letters: B samples, U numbers for a crop."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from aimv2.base import address
from aimv2.base.errors import BadSampleError, Reason, RunFailedError
from aimv2.config.native import size_within
from aimv2.config.run_config import RunConfig
from aimv2.data.decode import NUM_CROP_DRAWS, crop
from aimv2.data.pairs import CaptionKind, Joined, Picture
from aimv2.data.prepare import order_of

MIN_SHARE = 1 / 8  # of the rows of blocks that a run shows, below which they are not fetched whole
MAX_REPLACEMENTS = 100  # in a row, after which a source has no usable sample

Role = Literal["image", "caption", "target"]
# Purposes of the orders of captions and targets that are not those of the images.
SHUFFLED: dict[Role, str] = {"caption": "order of shuffled captions", "target": "order of shuffled pixels"}


class Bad(NamedTuple):
    """A bad sample: the place in the run where it was replaced, its source and key, and what is wrong."""

    place: int
    source: str
    key: str
    reason: Reason
    detail: str


@dataclass(frozen=True)
class Samples:
    row_B: np.ndarray  # the rows of their pictures: int64 [B]
    epoch_B: np.ndarray  # with ``sample_id_B`` their random addresses: int64 [B]
    sample_id_B: np.ndarray
    part_B: np.ndarray  # numbers of their sources: int64 [B]
    is_dense_B: np.ndarray  # True if a sample shows its dense caption
    # Of a side of ``data.render_px``; or of ``model.image_px``, if they come from files, cropped already, so that no
    # more of an image is decoded than its crop needs. At native resolution, files give pictures of the size of their
    # grids, and scenes are drawn for the largest area.
    pictures: list[np.ndarray]
    targets: list[np.ndarray]  # pictures whose patches the pixel loss predicts; empty if they are those of ``pictures``
    captions: list[str]
    bad: list[Bad]
    num_retries: int = 0  # reads that were repeated after a transient error


class Reader:
    """Reads samples by their places in a run. Each is a function of the config and its place.

    A sample without a usable image or caption is replaced by another one of its source, which its place decides.
    """

    def __init__(self, config: RunConfig, pairs: Joined) -> None:
        self._config, self._pairs = config, pairs
        self._augment = config.augment.of(config.data)
        self.order = order_of(config.data, pairs)
        # Independent orders: they also show each caption once an epoch, and keep the shares of a mixture.
        given: dict[Role, str] = {"caption": config.data.captions, "target": config.data.pixels}
        self._shuffled = {role: SHUFFLED[role] for role, choice in given.items() if choice == "shuffled"}
        self._dense_share_S = np.array(
            [
                config.data.dense_share(number) if len(part.kinds) > 1 else part.kinds == ("dense",)
                for number, part in enumerate(pairs.parts.values())
            ],
            dtype=float,
        )

    def read(self, place_B: np.ndarray, area: int | None = None) -> Samples:
        """Return the samples at these places: int64 [B]."""
        if self._pairs.concurrency > 1:
            self._pairs.expect(self._blocks_ahead(place_B))
        epoch_B, rows = self._rows_at(place_B)
        num_samples, has_targets = len(place_B), rows["target"] is not rows["image"]
        samples = Samples(
            row_B=rows["image"],  # replacements change it in place
            epoch_B=epoch_B,
            sample_id_B=np.empty(num_samples, dtype=np.int64),
            part_B=self._pairs.part_numbers(rows["image"]),
            is_dense_B=np.empty(num_samples, dtype=bool),
            pictures=[np.empty(0)] * num_samples,
            targets=[np.empty(0)] * num_samples if has_targets else [],
            captions=[""] * num_samples,
            bad=[],
        )
        open_B, retries = np.arange(num_samples), self._pairs.retries
        for attempt in range(1, MAX_REPLACEMENTS + 1):
            failed_B = self._fill(samples, place_B, rows, open_B, area)
            if not failed_B:
                return replace(samples, num_retries=self._pairs.retries - retries)
            open_B = np.array(failed_B)
            for index in failed_B:
                self._replace(rows, index, int(place_B[index]), attempt)
        last = samples.bad[-1]
        raise RunFailedError(
            "data",
            f"{MAX_REPLACEMENTS} samples of {last.source} in a row cannot be used; the last is {last.key}:"
            f" {last.reason}{f' ({last.detail})' if last.detail else ''}",
        )

    def _rows_at(self, place_B: np.ndarray) -> tuple[np.ndarray, dict[Role, np.ndarray]]:
        """Return the epochs, and the rows by what they give; equal roles have the same array."""
        seed = self._config.seed
        epoch_B, row_B = self.order.at(place_B, seed=seed)
        rows: dict[Role, np.ndarray] = dict.fromkeys(("image", "caption", "target"), row_B)
        for role, purpose in self._shuffled.items():
            rows[role] = self.order.at(place_B, seed=seed, purpose=purpose)[1]
        return epoch_B, rows

    def _blocks_ahead(self, place_B: np.ndarray) -> list[range]:
        """Return the blocks that are read now and next, for all roles; none if a short run reads little of them."""
        ahead = partial(self.order.ahead, place_B, seed=self._config.seed)
        blocks = [*ahead(), *(block for purpose in self._shuffled.values() for block in ahead(purpose=purpose))]
        return blocks if self._config.budget.samples >= MIN_SHARE * sum(map(len, blocks)) / 2 else []

    def _fill(
        self,
        samples: Samples,
        place_B: np.ndarray,
        rows: dict[Role, np.ndarray],
        open_B: np.ndarray,
        area: int | None,
    ) -> list[int]:
        """Read some of the samples, by their indices, and return the indices of the bad ones."""
        sample_id_B = self._pairs.sample_ids(rows["image"][open_B])
        samples.sample_id_B[open_B] = sample_id_B
        uniforms = partial(
            address.uniforms, seed=self._config.seed, epoch_B=samples.epoch_B[open_B], sample_id_B=sample_id_B
        )
        caption_B2 = uniforms(purpose="caption", num_draws=2)
        samples.is_dense_B[open_B] = caption_B2[:, 0] < self._dense_share_S[samples.part_B[open_B]]
        crop_BU = uniforms(purpose="crop", num_draws=NUM_CROP_DRAWS) if self._config.data.kind == "files" else None
        failed_B = []
        for number, index in enumerate(open_B.tolist()):
            crop_U = None if crop_BU is None else crop_BU[number]
            kind: CaptionKind = "dense" if samples.is_dense_B[index] else "short"
            role: Role = "image"
            try:
                samples.pictures[index] = self._picture(int(rows["image"][index]), crop_U, area)
                role = "caption"
                choice = float(caption_B2[number, 1])
                samples.captions[index] = self._pairs.text(int(rows["caption"][index]), kind, choice)
                role = "target"
                if samples.targets:
                    samples.targets[index] = self._picture(int(rows["target"][index]), crop_U, area)
            except BadSampleError as error:
                row_1 = rows[role][index : index + 1]
                source = list(self._pairs.parts)[int(self._pairs.part_numbers(row_1)[0])]
                key = self._pairs.keys(row_1)[0]
                samples.bad.append(Bad(int(place_B[index]), source, key, error.reason, error.detail))
                failed_B.append(index)
        return failed_B

    def _picture(self, row: int, crop_U: np.ndarray | None, area: int | None) -> np.ndarray:
        picture: Picture = self._pairs.picture(row)
        if isinstance(picture, np.ndarray):
            return picture
        assert crop_U is not None, "only sources of kind files have pictures to decode"
        data, augment = self._config.data, self._pairs.augment(row, self._augment)
        model = self._config.model
        size = model.image_px if area is None else partial(size_within, patch_px=model.patch_px, area=area)
        return crop(picture, crop_U, augment, size, data.max_pixels)

    def _replace(self, rows: dict[Role, np.ndarray], index: int, place: int, attempt: int) -> None:
        """Replace a sample's rows by others of the same sources."""
        for role in ("image", "caption", "target"):
            if role != "image" and rows[role] is rows["image"]:
                continue
            part = int(self._pairs.part_numbers(rows[role][index : index + 1])[0])
            rows_of_part = list(self._pairs.rows.values())[part]
            purpose = f"replacement of {role}"
            draw = address.generator(seed=self._config.seed, purpose=purpose, epoch=attempt, sample_id=place)
            rows[role][index] = rows_of_part.start + int(draw.integers(len(rows_of_part)))
