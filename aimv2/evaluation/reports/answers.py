"""Answers of the reader to questions, and places at which it points, after it has been tuned on questions.

It starts from the caption reader, and reads the same features of the frozen encoder: the paper's instruction tuning
(section 4.3.1) and grounding in miniature. The blind reader is tuned in the same way, with the mean feature in place of
every patch, and shows what questions tell without images.

Letters: N images, M questions, U of them different, T tokens, I patches, D width of the encoder.
"""

import copy
from collections import Counter

import numpy as np
from torch import Tensor

from aimv2.base import address
from aimv2.config.evaluation_config import ReaderConfig
from aimv2.config.run_config import RunConfig
from aimv2.data.sources.scene import ANSWERED
from aimv2.evaluation.losses import misses, token_nats
from aimv2.evaluation.parts import Measured
from aimv2.evaluation.questions import Asked
from aimv2.evaluation.reading import fit
from aimv2.model.network import CaptionReader
from aimv2.spec.items import Items


def measure(
    reader: CaptionReader,
    features_NID: Tensor,
    tuning: Asked,
    held_out_NID: Tensor,
    asked: Asked,
    item_N: np.ndarray,
    config: RunConfig,
) -> dict[str, Measured]:
    """Return the metrics by name; none if training has no question.

    Args:
        reader: trained on captions; it stays as it is.
        features_NID: of the images that ``tuning`` asks about.
        held_out_NID: of those that ``asked`` asks about; the items of these pairs are ``item_N``.
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
    own = copy.deepcopy(reader)
    batches = batches_by_image(config.evaluation.reader, tuning.row_M, config.seed)
    fit(own, features_NID, tuning.captions, batches, config, image_of_M=tuning.row_M)
    return own


def batches_by_image(options: ReaderConfig, image_M: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return the rows of each step's questions, all about an image one after the other, so that few images are read.

    They are whole epochs of the images in random order, up to the number of questions.

    Args:
        image_M: int64, the image of each question, ascending.
    """
    rows_of = np.split(np.arange(len(image_M)), np.flatnonzero(np.diff(image_M)) + 1)
    num_epochs = -(-options.questions // len(image_M))
    orders = [
        address.generator(seed=seed, purpose="question order", epoch=epoch).permutation(len(rows_of)).tolist()
        for epoch in range(num_epochs)
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
        answers = Counter(sorted(tuning.answer_M[tuning.kind_M == kind]))
        best[kind] = answers.most_common(1)[0][0] if answers else None
    return np.array([best[kind] for kind in kind_M], dtype=object)
