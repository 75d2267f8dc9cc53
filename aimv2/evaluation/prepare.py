"""Preparation of the data that runs are evaluated on: held-out pairs, choices about them, and transfer sets."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from aimv2.base.errors import UsageError
from aimv2.config.data_config import DataConfig
from aimv2.config.evaluation_config import EvaluationConfig
from aimv2.config.run_config import RunConfig
from aimv2.data.pairs import Pairs, Selected
from aimv2.data.prepare import Data
from aimv2.data.transfer import Tested, TransferSet, transfer_sets
from aimv2.evaluation.held_out import HeldOutPairs, Words, prepare_pairs
from aimv2.evaluation.questions import Asked, Choices, hard_negatives, prepare_choices, prepare_questions


@dataclass(frozen=True, eq=False)
class Prepared:
    """What all runs on the same data are evaluated on.

    Attributes:
        held_out: in random order, so that the first pairs are a random subset.
        unseen: held-out scenes with unseen objects; None if the data has none.
        choices: about the scenes of ``held_out``.
        reading: training pairs, on which the reader is trained; None without a reader.
        tuning, asked: questions about ``reading`` and about the first pairs of ``held_out``
            (``evaluation.num_other_images``); None if the reader is asked none.
    """

    held_out: HeldOutPairs
    unseen: HeldOutPairs | None
    choices: Choices
    reading: HeldOutPairs | None
    tuning: Asked | None
    asked: Asked | None
    transfer: list[TransferSet]


Transfer = Callable[[Data, Tested, int], list[TransferSet]]


def prepare_evaluation(data: Data, config: RunConfig, transfer: Transfer = transfer_sets) -> Prepared:
    """Prepare the evaluation data, or return that of an earlier run of this process if it is the same."""
    return _prepare(data, Words.of(data.tokenizer, config), config.data, config.evaluation, transfer)


def prepare_held_out(data: Data, config: RunConfig) -> HeldOutPairs:
    """Prepare or return ``Prepared.held_out`` alone."""
    return _held_out(data, Words.of(data.tokenizer, config), config.data.max_bad_rate, _common(config.evaluation))


def prepare_labelled(data: Data, config: RunConfig) -> list[TransferSet]:
    """Prepare or return ``Prepared.transfer`` alone."""
    words, common = Words.of(data.tokenizer, config), _common(config.evaluation)
    return _labelled(data, words, config.data.max_bad_rate, common, transfer_sets)


def _common(evaluation: EvaluationConfig) -> EvaluationConfig:
    """Return what held-out pairs and labelled images depend on, with defaults for the rest."""
    return EvaluationConfig(
        split=evaluation.split, num_items=evaluation.num_items, num_probe_scenes=evaluation.num_probe_scenes
    )


@lru_cache(maxsize=4)  # a worker's runs cycle through a few arms; each has some 100 MB at demo's sizes
def _prepare(
    data: Data, words: Words, config: DataConfig, evaluation: EvaluationConfig, transfer: Transfer
) -> Prepared:
    held_out = _held_out(data, words, config.max_bad_rate, _common(evaluation))
    pairs = Selected(of_split(data.held_out, evaluation.num_items, evaluation), held_out.row_N)
    scenes = [pairs.scene(row) for row in range(len(pairs))]
    negatives = hard_negatives(scenes, config.scenes.max_objects, config.held_out_fraction)
    reader = evaluation.reader
    reading = tuning = asked = unseen = None
    if reader.samples:
        train = data.train.subset(reader.pairs)
        # Training keeps to the rate of bad samples; here they are left out.
        reading = prepare_pairs(train, words._replace(supervise_eos=False), max_bad_rate=1.0)
        if reader.questions:
            tuning = prepare_questions(Selected(train, reading.row_N), words, most=reader.questions)
            asked_about = np.arange(min(evaluation.num_other_images, len(pairs)))
            asked = prepare_questions(Selected(pairs, asked_about), words)
    if data.unseen is not None:
        unseen = prepare_pairs(of_split(data.unseen, evaluation.num_pairs, evaluation), words)
    labelled = _labelled(data, words, config.max_bad_rate, _common(evaluation), transfer)
    return Prepared(held_out, unseen, prepare_choices(negatives, words), reading, tuning, asked, labelled)


@lru_cache(maxsize=4)
def _held_out(data: Data, words: Words, max_bad_rate: float, common: EvaluationConfig) -> HeldOutPairs:
    return prepare_pairs(of_split(data.held_out, common.num_items, common), words, max_bad_rate)


@lru_cache(maxsize=4)
def _labelled(
    data: Data, words: Words, max_bad_rate: float, common: EvaluationConfig, transfer: Transfer
) -> list[TransferSet]:
    held_out = _held_out(data, words, max_bad_rate, common)
    pairs = Selected(of_split(data.held_out, common.num_items, common), held_out.row_N)
    return transfer(data, Tested(pairs, held_out.images), common.num_probe_scenes)


def of_split(held_out: Pairs, num_pairs: int, evaluation: EvaluationConfig) -> Pairs:
    """Return some of the held-out pairs, of the config's split; a UsageError if there are too few for both splits."""
    is_validation, most = evaluation.split == "validation", max(evaluation.num_items, num_pairs)
    if is_validation and 2 * most > len(held_out):
        raise UsageError(
            f"evaluation.split=validation needs as many held-out pairs again as the test, 2 x {most:,}, and there are"
            f" {len(held_out):,}; lower evaluation.num_items"
        )
    return held_out.subset(num_pairs, from_end=is_validation)
