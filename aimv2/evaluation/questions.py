"""Questions about held-out pairs for a reader, as tokens. Letters: N pairs, M questions, T caption tokens."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from aimv2.base import address
from aimv2.base.errors import BadSampleError
from aimv2.data.pairs import Pairs
from aimv2.data.sources.scene import SCENE_QUESTIONS, Caption, Question, WordClass, caption
from aimv2.evaluation.held_out import Captions, Words, prepare_captions


@dataclass(frozen=True)
class Asked:
    """Questions with their answers.

    Attributes:
        captions: each question, its answer and end-of-text; the last two are supervised.
        row_M: int64, the pair of each, ascending.
        kind_M, answer_M: its kind and the text of its answer.
        num_left_out: questions that are longer than the reader reads, and pairs whose questions are broken.
    """

    captions: Captions
    row_M: np.ndarray
    kind_M: np.ndarray
    answer_M: np.ndarray
    num_left_out: int

    def __len__(self) -> int:
        return len(self.row_M)

    def rows(self, row_K: np.ndarray) -> "Asked":
        kept = (self.captions.rows(row_K), self.row_M[row_K], self.kind_M[row_K], self.answer_M[row_K])
        return Asked(*kept, self.num_left_out)

    def about_one_image(self) -> "Asked":
        """Return the same questions about the image of row 0."""
        return replace(self, row_M=np.zeros_like(self.row_M))


def prepare_questions(pairs: Pairs, words: Words, most: int | None = None) -> Asked:
    """Return the questions about pairs: of a scene a fixed random one of each kind, of pairs in files all.

    A question that does not fit ``words.max_tokens`` with its answer and end-of-text is left out. After ``most``
    questions no further pair is asked about.
    """
    chosen: list[tuple[int, Question]] = []
    num_broken = 0
    draw_NK = address.generator(seed=0, purpose="questions").random((len(pairs), len(SCENE_QUESTIONS)))
    for row, draws in enumerate(draw_NK.tolist()):
        if most is not None and len(chosen) >= most:
            break
        try:
            questions = pairs.questions(row)
        except BadSampleError:
            num_broken += 1
            continue
        chosen += [(row, question) for question in questions if question.kind == "own"]
        for kind, draw in zip(SCENE_QUESTIONS, draws, strict=True):
            if of_kind := [question for question in questions if question.kind == kind]:
                chosen.append((row, of_kind[int(draw * len(of_kind))]))
    sequences = [_sequence(question) for _, question in chosen]
    captions = prepare_captions(sequences, words)
    num_bytes_M = torch.tensor([len(sequence.text.encode()) for sequence in sequences], dtype=torch.int64)
    fits_M = (captions.num_bytes_N == num_bytes_M).numpy()
    is_end_MT = torch.arange(captions.token_NT.shape[1]) == captions.text_len_N[:, None] - 1
    captions = replace(captions, supervised_NT=captions.of_class("word") | is_end_MT)
    asked = Asked(
        captions,
        np.array([row for row, _ in chosen], dtype=np.int64),
        np.array([question.kind for _, question in chosen], dtype=object),
        np.array([" ".join(question.answer) for _, question in chosen], dtype=object),
        num_left_out=num_broken + int((~fits_M).sum()),
    )
    return asked.rows(np.flatnonzero(fits_M))


def _sequence(question: Question) -> Caption:
    """Return a question and its answer as one text; the words of the answer are of the class ``word``."""
    words: list[tuple[str, WordClass]] = [(word, "other") for word in question.words]
    return caption([*words, *((word, "word") for word in question.answer)])
