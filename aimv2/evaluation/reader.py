"""The report of the reader: what a fresh decoder, trained on captions, reads from the frozen encoder.

The decoder has the same size, start, captions and order of captions in all runs with a seed, whatever their objective,
decoder and attention. It stands for the paper's instruction tuning (section 4.3.1), in which a language model learns to
read the frozen encoder. A copy of it is then tuned on questions, and answers others or points at places: instruction
tuning and grounding in miniature. A blind reader is tuned in the same way, with the mean feature in place of every
patch, and shows what questions tell without images.

Letters: N images, M texts or questions, U different questions, B texts of a step, T tokens, I patches, D width of the
encoder.
"""

import copy
import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aimv2.base import address
from aimv2.config.evaluation_config import ReaderConfig
from aimv2.config.run_config import RunConfig
from aimv2.config.training_config import OptimizerConfig
from aimv2.data.sources.scene import ANSWERED
from aimv2.definitions.items import Items
from aimv2.evaluation.features import Encoded, moments
from aimv2.evaluation.held_out import Captions, other_images
from aimv2.evaluation.parts import Measured
from aimv2.evaluation.prepare import Prepared
from aimv2.evaluation.questions import Asked
from aimv2.evaluation.reports import by_class, misses, nats_of_all, token_nats
from aimv2.memory.evaluation import texts_at_once
from aimv2.model.initial import init_weights_
from aimv2.model.network import CaptionReader, Network
from aimv2.objectives.losses import text_loss
from aimv2.training.device import autocast
from aimv2.training.optimizer import build_optimizer, learning_rate


def measure(model: Network, encoded: Encoded, prepared: Prepared) -> dict[str, Measured]:
    """Return the metrics of the report, by name; none if the run has no reader."""
    config, world, reading = encoded.config, encoded.world, prepared.reading
    if reading is None:
        return {}
    features_NID = encoded.of(reading.images, is_causal=False)
    held_out = prepared.held_out
    some = held_out.first(config.evaluation.num_other_images)
    wanted = [(held_out.dense, np.arange(len(held_out))), (some.dense, other_images(some.dense))]
    options = config.evaluation.reader
    first: Any = None  # the reader that is asked
    nats = [torch.zeros(()) for _ in wanted]  # the mean over readers
    for number in range(options.readers):
        reader = trained(features_NID, reading.dense, config, number) if world.rank == 0 else None
        reader = world.of(0, reader)  # one for all ranks, since two processes may round otherwise
        first = first or reader
        read = nats_of_all(reader, encoded.full, wanted, config, world)
        nats = [total + one / options.readers for total, one in zip(nats, read, strict=True)]
    dense_NT, other_NT = nats
    by = "a decoder" if options.readers == 1 else f"the mean of {options.readers} decoders"
    how = (
        f"content words of dense captions of {len(held_out):,} held-out pairs, by {by} trained on"
        f" {options.samples:,} captions of {len(reading):,} pairs; frozen encoder, full attention"
    )
    losses = by_class(dense_NT, held_out.dense, held_out.item_N)
    gain = by_class(other_NT - dense_NT[: len(some)], some.dense, some.item_N)[""]
    measured = {
        **{f"reader_loss{name}": Measured(items, how) for name, items in losses.items()},
        "reader_gain": Measured(gain, f"loss with another pair's image minus that with its own; {how}"),
    }
    if world.rank or prepared.tuning is None:  # rank 0 measures answers alone
        return measured
    images_NID = encoded.full[: len(some)]
    return measured | answers(first, features_NID, prepared.tuning, images_NID, prepared.asked, some.item_N, config)


def trained(features_NID: Tensor, captions: Captions, config: RunConfig, number: int = 0) -> CaptionReader:
    """Train the reader of this number on captions, each of which is read several times, and features of the images."""
    seed = address.integer(seed=config.seed, purpose=f"reader {number}" if number else "reader")  # of no run
    reader = initial(features_NID, config, seed=seed).to(config.device)
    fit(reader, features_NID, captions, batches_of(config.evaluation.reader, len(captions), seed), config)
    return reader


def initial(features_NID: Tensor, config: RunConfig, *, seed: int) -> CaptionReader:
    """Return the reader before training, which standardises features as these."""
    model = dataclasses.replace(config.model, decoder=config.evaluation.reader.decoder)
    reader = CaptionReader(model, *moments(features_NID, torch.device(config.device)))
    init_weights_(reader, seed=seed)
    return reader


def batches_of(options: ReaderConfig, num_captions: int, seed: int) -> list[np.ndarray]:
    """Return the rows of each step's captions: whole epochs in random order, up to the number of samples."""
    orders = [
        address.generator(seed=seed, purpose="reader order", epoch=epoch).permutation(num_captions)
        for epoch in range(-(-options.samples // num_captions))
    ]
    num_steps = max(options.samples // options.batch_size, 1)
    return np.array_split(np.concatenate(orders)[: num_steps * options.batch_size], num_steps)


def fit(
    reader: CaptionReader,
    features_NID: Tensor,
    texts: Captions,
    batches: Sequence[np.ndarray],
    config: RunConfig,
    *,
    image_of_M: np.ndarray | None = None,
    at_once: int | None = None,
) -> None:
    """Train a reader to predict the supervised tokens.

    Args:
        features_NID: of the images, in any place and precision.
        batches: rows of the texts of each step.
        image_of_M: int64, the row of each text's image; None is its own. An image is read once in a step, whatever the
            number of its texts there.
        at_once: texts whose gradients are computed at once and added to those of the step; None is ``texts_at_once``.
    """
    image_of_M = np.arange(len(texts)) if image_of_M is None else image_of_M
    options = config.evaluation.reader
    schedule = OptimizerConfig(peak_lr=options.peak_lr, warmup_fraction=options.warmup)
    optimizer, rate = build_optimizer(reader, schedule), learning_rate(schedule)
    device, at_once = config.device, at_once or texts_at_once(config)
    reader.train()
    for step, row_B in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = rate(step / len(batches))
        optimizer.zero_grad(set_to_none=True)
        num_tokens = int(texts.supervised_NT[row_B].sum())
        for some_B in np.split(row_B, range(at_once, len(row_B), at_once)):
            longest = int(texts.num_read_N[some_B].max())
            token_BT = texts.token_NT[some_B, :longest].to(device)
            place_S = texts.supervised_NT[some_B, :longest].flatten().nonzero().squeeze(1).to(device)
            image_A, number_B = np.unique(image_of_M[some_B], return_inverse=True)
            feature_AID = features_NID[image_A].to(config.device).float()
            target_S = token_BT.flatten().index_select(0, place_S)
            with autocast(config):
                images = reader.decoder.read_image(feature_AID).rows(torch.from_numpy(number_B).to(device))
                text_BTE = reader.decoder.read_captions(token_BT[:, :-1], images)
                text_SE = text_BTE.flatten(0, 1).index_select(0, place_S)
                loss = text_loss(text_SE, reader.decoder.text_head.weight, target_S, count=num_tokens)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(reader.parameters(), schedule.clip_norm)
        optimizer.step()


def answers(
    reader: CaptionReader,
    features_NID: Tensor,
    tuning: Asked,
    held_out_NID: Tensor,
    asked: Asked,
    item_N: np.ndarray,
    config: RunConfig,
) -> dict[str, Measured]:
    """Return the metrics of answers by name; none if training has no question.

    Features are those of the images that ``tuning`` asks about, and of those that ``asked`` asks about (``item_N``).
    """
    if not len(tuning):
        return {}
    no_image_1ID = reader.decoder.get_buffer("mean_D").expand(1, *features_NID.shape[1:])  # 0 when standardised
    seeing = tuned(reader, features_NID, tuning, config)
    blind = tuned(reader, no_image_1ID, tuning.about_one_image(), config)
    outcome_M = {
        "": exact(seeing, held_out_NID, asked, config),
        "_blind": exact_blind(blind, no_image_1ID, asked, config),
        "_chance": asked.answer_M == most_frequent(tuning, asked.kind_M),
    }
    is_place_M = asked.kind_M == "place"

    def items(is_asked_M: np.ndarray, name: str = "") -> Items:
        return Items.of(item_N[asked.row_M[is_asked_M]], outcome_M[name][is_asked_M])

    how = (
        f"{len(asked):,} questions about {len(held_out_NID):,} held-out pairs, by the reader, tuned on"
        f" {config.evaluation.reader.questions:,} questions; every token of the answer is the likeliest"
    )
    if num_left_out := tuning.num_left_out + asked.num_left_out:
        how += f"; {num_left_out:,} questions are left out, too long or broken"
    chance = f"the most frequent answer to {len(tuning):,} questions in training, for each kind of question"
    return {
        "reader_answers": Measured(items(~is_place_M), how),
        **{
            f"reader_answers_{kind}": Measured(items(asked.kind_M == kind), f"questions of this kind; {how}")
            for kind in ANSWERED
        },
        "reader_answers_chance": Measured(items(~is_place_M, "_chance"), chance),
        "reader_answers_blind": Measured(items(~is_place_M, "_blind"), f"the same without images; {how}"),
        "reader_pointing": Measured(items(is_place_M), f"the cell of a named object; {how}"),
        "reader_pointing_chance": Measured(items(is_place_M, "_chance"), chance),
    }


def tuned(reader: CaptionReader, features_NID: Tensor, tuning: Asked, config: RunConfig) -> CaptionReader:
    """Return a copy of a reader that was tuned on the answers to questions."""
    tuned_reader = copy.deepcopy(reader)
    batches = batches_by_image(config.evaluation.reader, tuning.row_M, config.seed)
    fit(tuned_reader, features_NID, tuning.captions, batches, config, image_of_M=tuning.row_M)
    return tuned_reader


def batches_by_image(options: ReaderConfig, image_M: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return the rows of each step's questions, all about an image one after the other, so that few images are read.

    They are whole epochs of the images in random order, up to the number of questions; ``image_M`` is ascending.
    """
    rows_of = np.split(np.arange(len(image_M)), np.flatnonzero(np.diff(image_M)) + 1)
    orders = [
        address.generator(seed=seed, purpose="question order", epoch=epoch).permutation(len(rows_of)).tolist()
        for epoch in range(-(-options.questions // len(image_M)))
    ]
    row_S = np.concatenate([rows_of[image] for order in orders for image in order])[: options.questions]
    return np.array_split(row_S, max(options.questions // options.batch_size, 1))


def exact(reader: CaptionReader, features_NID: Tensor, asked: Asked, config: RunConfig) -> np.ndarray:
    """Return True where each token of the answer is the likeliest one after the true tokens before it: bool [M].

    Then greedy decoding answers the same, and only then: up to its first wrong token it reads the true ones.
    """
    miss_MT = token_nats(reader, features_NID, asked.captions, config, image_of_N=asked.row_M, loss=misses)
    is_right_M: np.ndarray = (miss_MT.sum(dim=1) == 0).numpy()
    return is_right_M


def exact_blind(reader: CaptionReader, feature_1ID: Tensor, asked: Asked, config: RunConfig) -> np.ndarray:
    """Return ``exact`` for questions that are all asked about one image; equal ones are read once."""
    _, first_U, text_M = np.unique(asked.captions.token_NT.numpy(), axis=0, return_index=True, return_inverse=True)
    right_U = exact(reader, feature_1ID, asked.rows(first_U).about_one_image(), config)
    return right_U[text_M]


def most_frequent(tuning: Asked, kind_M: np.ndarray) -> np.ndarray:
    """Return the most frequent answer to questions of each question's kind: text [M], None if the kind is not asked.

    Of equally frequent answers it is the first in the alphabet.
    """
    best = {}
    for kind in set(kind_M):
        counts = Counter(sorted(tuning.answer_M[tuning.kind_M == kind]))
        best[kind] = counts.most_common(1)[0][0] if counts else None
    return np.array([best[kind] for kind in kind_M], dtype=object)
