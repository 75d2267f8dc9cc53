"""Preparation of the data that runs are evaluated on: held-out pairs, questions about them, and transfer sets."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache

import numpy as np

from aimv2.base.errors import UsageError
from aimv2.config.data_config import DataConfig
from aimv2.config.evaluation_config import EvaluationConfig, ReaderConfig
from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import Pairs, Selected
from aimv2.data.prepare import Data
from aimv2.data.transfer import Tested, TransferSet, transfer_sets
from aimv2.evaluation.held_out import HeldOutPairs, Words, prepare_pairs
from aimv2.evaluation.questions import Asked, prepare_questions

Transfer = Callable[[Data, Tested, int], list[TransferSet]]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The values of an EvaluationConfig on which its data depend."""

    split: str
    num_items: int
    num_pairs: int
    num_other_images: int
    num_probe_scenes: int
    reader: ReaderConfig


@dataclass(frozen=True, eq=False)
class Prepared:
    """What all runs on the same data are evaluated on; each part is prepared when it is first read."""

    data: Data
    words: Words
    config: DataConfig
    evaluation: DataOptions
    transfer_sets: Transfer

    @cached_property
    def held_out(self) -> HeldOutPairs:
        """Held-out pairs in random order, so that the first ones are a random subset."""
        return prepare_pairs(self._split(self.data.held_out), self.words, self.config.max_bad_rate)

    @cached_property
    def unseen(self) -> HeldOutPairs | None:
        """Held-out scenes with unseen objects; None if the data has none."""
        if self.data.unseen is None:
            return None
        return prepare_pairs(of_split(self.data.unseen, self.evaluation.num_pairs, self.evaluation), self.words)

    @cached_property
    def reading(self) -> HeldOutPairs | None:
        """Training pairs, on which the reader is trained; None without a reader."""
        if not self.evaluation.reader.samples:
            return None
        # Training keeps to the rate of bad samples; here they are left out.
        return prepare_pairs(self._train, self.words._replace(supervise_eos=False), max_bad_rate=1.0)

    @cached_property
    def tuning(self) -> Asked | None:
        """Questions about ``reading``; None if the reader is asked none."""
        if self.reading is None or not self.evaluation.reader.questions:
            return None
        pairs = Selected(self._train, self.reading.row_N)
        return prepare_questions(pairs, self.words, most=self.evaluation.reader.questions)

    @cached_property
    def asked(self) -> Asked:
        """Questions about the first pairs of ``held_out`` (``evaluation.num_other_images``)."""
        row_N = np.arange(min(self.evaluation.num_other_images, len(self._pairs)))
        return prepare_questions(Selected(self._pairs, row_N), self.words)

    @cached_property
    def transfer(self) -> list[TransferSet]:
        """Labelled images in three splits, on which the encoder is probed."""
        tested = Tested(self._pairs, self.held_out.images)
        return self.transfer_sets(self.data, tested, self.evaluation.num_probe_scenes)

    @property
    def _train(self) -> Pairs:
        return self.data.train.subset(self.evaluation.reader.pairs)

    @cached_property
    def _pairs(self) -> Pairs:
        """The pairs of ``held_out``, without the bad ones."""
        return Selected(self._split(self.data.held_out), self.held_out.row_N)

    def _split(self, pairs: Pairs) -> Pairs:
        return of_split(pairs, self.evaluation.num_items, self.evaluation)


def prepare_evaluation(data: Data, config: RunConfig, transfer: Transfer = transfer_sets) -> Prepared:
    """Return the evaluation data, that of an earlier run of this process if it is the same."""
    values = {field.name: getattr(config.evaluation, field.name) for field in fields(DataOptions)}
    return _prepared(
        data, Words.of(data.tokenizer, config), config.data.as_evaluated(), DataOptions(**values), transfer
    )


_prepared = lru_cache(maxsize=4)(Prepared)  # a worker's runs cycle through a few arms; each has 100 MB at demo's sizes


def of_split(held_out: Pairs, num_pairs: int, evaluation: EvaluationConfig | DataOptions) -> Pairs:
    """Return some of the held-out pairs, of the config's split; a UsageError if there are too few for both splits."""
    is_validation, most = evaluation.split == "validation", max(evaluation.num_items, num_pairs)
    if is_validation and 2 * most > len(held_out):
        raise UsageError(
            f"evaluation.split=validation needs as many held-out pairs again as the test, 2 x {most:,}, and there are"
            f" {len(held_out):,}; lower evaluation.num_items"
        )
    return held_out.subset(num_pairs, from_end=is_validation)
