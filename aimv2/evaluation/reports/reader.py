"""The report of the reader: what a fresh decoder, trained on captions, reads from the frozen encoder.

The decoder has the same size, start, captions and order of captions in all runs with a seed, whatever their objective,
decoder and attention. It stands for the paper's instruction tuning (section 4.3.1), in which a language model learns to
read the frozen encoder.

Letters: N pairs, B captions of a batch, T caption tokens, D width of the encoder.
"""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from aimv2.base import address
from aimv2.config.evaluation_config import ReaderConfig
from aimv2.config.run_config import RunConfig
from aimv2.evaluation.features import Encoded
from aimv2.evaluation.held_out import Captions, other_images
from aimv2.evaluation.losses import nats_of_all
from aimv2.evaluation.parts import Measured
from aimv2.evaluation.prepare import Prepared
from aimv2.evaluation.probes.splits import moments
from aimv2.evaluation.reading import fit
from aimv2.evaluation.reports import answers
from aimv2.evaluation.reports.captions import by_class
from aimv2.evaluation.reports.choices import choice_items, outcomes
from aimv2.model.initial import init_weights_
from aimv2.model.network import CaptionReader, Network


def measure(model: Network, encoded: Encoded, prepared: Prepared) -> dict[str, Measured]:
    """Return the metrics of the report, by name; none if the run has no reader."""
    config, world, reading = encoded.config, encoded.world, prepared.reading
    if reading is None:
        return {}
    features_NID = encoded.of(reading.images, is_causal=False)
    own = trained(features_NID, reading.dense, config) if world.rank == 0 else None
    reader = world.of(0, own)  # one for all ranks, since two processes may round otherwise
    held_out, choices = prepared.held_out, prepared.choices
    some = held_out.first(config.evaluation.num_other_images)
    dense_NT, other_NT, negative_MT = nats_of_all(
        reader,
        encoded.full,
        [
            (held_out.dense, np.arange(len(held_out))),
            (some.dense, other_images(some.dense)),
            (choices.captions, choices.row_M),
        ],
        config,
        world,
    )
    how = (
        f"content words of dense captions of {len(held_out):,} held-out pairs, by a decoder trained on"
        f" {config.evaluation.reader.samples:,} captions of {len(reading):,} pairs; frozen encoder, full attention"
    )
    gain = by_class(other_NT - dense_NT[: len(some)], some.dense, some.item_N)[""]
    outcome_M = outcomes(dense_NT, held_out.dense, negative_MT, choices)
    return {
        **{
            f"reader_loss{name}": Measured(items, how)
            for name, items in by_class(dense_NT, held_out.dense, held_out.item_N).items()
        },
        "reader_gain": Measured(gain, f"loss with another pair's image minus that with its own; {how}"),
        "reader_choice_accuracy": Measured(
            choice_items(outcome_M, choices, held_out.item_N)[""], "the reader's choices, true caption or hard negative"
        ),
        **_answers(reader, features_NID, encoded, prepared),
    }


def _answers(reader: CaptionReader, features_NID: Tensor, encoded: Encoded, prepared: Prepared) -> dict[str, Measured]:
    """Return the metrics of answers on rank 0, which measures them alone."""
    if prepared.tuning is None or prepared.asked is None or encoded.world.rank:
        return {}
    some = prepared.held_out.first(encoded.config.evaluation.num_other_images)
    held_out_NID = encoded.full[: len(some)]
    return answers.measure(
        reader, features_NID, prepared.tuning, held_out_NID, prepared.asked, some.item_N, encoded.config
    )


def trained(features_NID: Tensor, captions: Captions, config: RunConfig) -> CaptionReader:
    """Train a reader on captions, of which each is read several times.

    Args:
        features_NID: of the captions' images, from the frozen encoder.
        config: ``evaluation.reader``, the seed, and how the device computes.
    """
    options = config.evaluation.reader
    seed = address.integer(seed=config.seed, purpose="reader")  # of no run
    reader = initial(features_NID, config, seed=seed).to(config.device)
    fit(reader, features_NID, captions, batches_of(options, len(captions), seed), config)
    return reader


def initial(features_NID: Tensor, config: RunConfig, *, seed: int) -> CaptionReader:
    """Return the reader before training, which standardises features as these."""
    model = dataclasses.replace(config.model, decoder=config.evaluation.reader.decoder)
    reader = CaptionReader(model, *moments(features_NID, torch.device(config.device)))
    init_weights_(reader, seed=seed)
    return reader


def batches_of(options: ReaderConfig, num_captions: int, seed: int) -> list[np.ndarray]:
    """Return the rows of each step's captions: whole epochs in random order, up to the number of samples."""
    num_epochs = -(-options.samples // num_captions)
    order = np.concatenate(
        [
            address.generator(seed=seed, purpose="reader order", epoch=epoch).permutation(num_captions)
            for epoch in range(num_epochs)
        ]
    )
    num_steps = max(options.samples // options.batch_size, 1)
    return np.array_split(order[: num_steps * options.batch_size], num_steps)
