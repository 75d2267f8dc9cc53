"""Pairs in files: the records of a source as images and captions.

Letters: B images, M held-out samples, N all, P parts of the records.
"""

import dataclasses
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from aimv2.base import address
from aimv2.base.errors import BadSampleError, short
from aimv2.config.data_config import AugmentConfig, DataConfig
from aimv2.data.decode import square
from aimv2.data.pairs import CaptionKind, Pairs, Sides
from aimv2.data.sources.scene import Caption, Question, WordClass
from aimv2.data.tokenizer import clean
from aimv2.datasets.description import Fields, SourceDescription
from aimv2.datasets.records import Records, json_of
from aimv2.datasets.selection import Selection

MAX_CAPTION = 2**15  # characters, far more than any model reads; cleaning megabytes of broken unicode takes seconds

# The closed classes of English: articles, pronouns, conjunctions, prepositions, auxiliaries. They mostly follow from
# the words around them, and the picture decides the others. In other languages every word is a content word.
_CLOSED_CLASSES = """
a an the this that these those some any each every no
i me my you your he him his she her it its we us our they them their who whom whose which what one
and or but nor so yet if because while as than though although
of in on at by for with from to into onto over under up down off out about near through across between around
after before during along against without within behind beside above below
is are was were be been being am has have had do does did will would can could may might shall should must
not there here when where how why also very just only too then
"""
FUNCTION_WORDS = frozenset(_CLOSED_CLASSES.split())


class FilePairs(Pairs):
    """Samples of a source: those of its records ``row_N``. ``name`` is part of the ids of samples."""

    def __init__(
        self,
        records: Records,
        row_N: Sequence[int] | np.ndarray,
        description: SourceDescription,
        config: DataConfig,
        name: str = "",
    ) -> None:
        self._records, self._row_N, self._name = records, row_N, name
        self._side, self._max_pixels = config.render_px, config.max_pixels
        self._fields = {
            "short": _Choice(description.short or description.dense),
            "dense": _Choice(description.dense or description.short),
        }
        self._questions = description.questions
        self._transforms = description.transforms.given
        self.block_rows, self.concurrency = records.block_rows, records.concurrency
        self.kinds = description.kinds

    def __len__(self) -> int:
        return len(self._row_N)

    def block_edges(self, num_nodes: int) -> np.ndarray:
        """Return the edges of blocks; with several nodes those of whole parts, so that no two blocks share one."""
        if num_nodes == 1:
            return super().block_edges(num_nodes)
        part_edge_P = self._records.part_edges()
        rows = self._row_N
        edge_P = np.unique(rows.below(part_edge_P) if isinstance(rows, _Others) else np.searchsorted(rows, part_edge_P))
        usual = max(float(np.median(np.diff(edge_P))), 1.0)
        edges = edge_P[:: max(round(self.block_rows / num_nodes / usual), 1)]
        return edges if edges[-1] == len(self) else np.append(edges, len(self))

    def expect(self, blocks: Sequence[range]) -> None:
        self._records.expect(
            [range(int(self._row_N[block[0]]), int(self._row_N[block[-1]]) + 1) for block in blocks if block]
        )

    def keys(self, row_B: np.ndarray) -> list[str]:
        return [self._records.key(int(self._row_N[row])) for row in row_B.tolist()]

    def sample_ids(self, row_B: np.ndarray) -> np.ndarray:
        record_B = np.array([self._row_N[row] for row in row_B.tolist()], dtype=np.int64)
        # Data sets often have equal keys, such as 000000017.
        hash_B = self._records.key_hashes(record_B) ^ np.uint64(address.hash64(f"source {self._name}"))
        return (hash_B >> np.uint64(1)).astype(np.int64)

    def picture(self, row: int) -> bytes:
        return self._records.image(int(self._row_N[row]))

    def caption(self, row: int, kind: CaptionKind, choice: float = 0.0) -> Caption:
        return worded(self.text(row, kind, choice))

    def text(self, row: int, kind: CaptionKind, choice: float = 0.0) -> str:
        field, choice = self._fields[kind].at(choice)
        value = self._records.field(int(self._row_N[row]), field)
        if isinstance(value, list) and value:
            value = value[int(choice * len(value))]
        if value is None or value == []:
            raise BadSampleError("missing caption", field)
        if not isinstance(value, str):
            raise BadSampleError("missing caption", f"{field} is {type(value).__name__}, not text")
        if len(value) > MAX_CAPTION:
            raise BadSampleError("caption over the limit", f"{field} has {len(value):,} characters")
        if not clean(value):  # cached, and the tokenizer cleans it again
            raise BadSampleError("empty caption", field)
        return value

    def questions(self, row: int) -> list[Question]:
        if self._questions is None:
            return []
        value = self._records.field(int(self._row_N[row]), self._questions)
        if isinstance(value, str):
            value = json_of(value.encode(), str(self._questions))
        if value is not None and not isinstance(value, list):
            raise BadSampleError("broken json", f"{self._questions} is {type(value).__name__}, not a list")
        return [_question(given) for given in value or ()]

    def field(self, row: int, name: str) -> Any:
        return self._records.field(int(self._row_N[row]), name)

    def image(self, row: int) -> np.ndarray:
        return square(self.picture(row), self._side, self._max_pixels)

    @property
    def retries(self) -> int:
        return self._records.retries

    def augment(self, row: int, config: AugmentConfig) -> AugmentConfig:
        return dataclasses.replace(config, **self._transforms) if self._transforms else config

    def spread(self, num_rows: int) -> Sequence[int]:
        """Return rows from all parts at equal distances, because files are often sorted."""
        num_rows = min(num_rows, len(self))
        return [number * len(self) // num_rows for number in range(num_rows)]


def worded(text: str) -> Caption:
    """Return a caption as clean words; the class of content words is ``word``, that of the others ``other``."""
    words = tuple(clean(text).split())
    classes: tuple[WordClass, ...] = tuple("other" if word in FUNCTION_WORDS else "word" for word in words)
    return Caption(words, classes)


def _question(given: Any) -> Question:
    """Return a question with its answer; what has no two texts, each with a word and not endless, is a bad sample."""
    texts = [given.get(key) if isinstance(given, dict) else None for key in ("question", "answer")]
    is_text = all(isinstance(text, str) and len(text) <= MAX_CAPTION for text in texts)
    question, answer = (tuple(clean(text).split()) if is_text else () for text in texts)
    if not question or not answer:
        raise BadSampleError("broken json", f"{short(given)} is not {{question: TEXT, answer: TEXT}}")
    return Question("own", question, answer)


class _Choice:
    """A random choice among fields by their probabilities."""

    def __init__(self, fields: Fields) -> None:
        total = sum(fields.values())
        self._names, self._ends = list(fields), list(accumulate(weight / total for weight in fields.values()))

    def at(self, number: float) -> tuple[str, float]:
        """Return the field that a number on [0, 1) chooses, and a number on [0, 1) for a choice within it."""
        place = min(bisect_right(self._ends, number), len(self._names) - 1)
        start = self._ends[place - 1] if place else 0.0
        return self._names[place], min((number - start) / (self._ends[place] - start), 1 - 2**-53)


class _Others(Sequence[int]):
    """The numbers from 0 to ``size - 1`` without some, sorted int64 [M]; ``of`` maps them, None leaves them."""

    def __init__(self, size: int, without_M: np.ndarray, of: np.ndarray | None) -> None:
        self._size, self._without_M, self._of = size - len(without_M), without_M, of
        self._before_M = without_M - np.arange(len(without_M))  # how many remaining numbers are below each

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: int) -> int:  # type: ignore[override]
        number = place + int(np.searchsorted(self._before_M, place, side="right"))
        return number if self._of is None else int(self._of[number])

    def below(self, number_B: np.ndarray) -> np.ndarray:
        """Return how many are below each of these numbers: int64 [B]."""
        below_B = number_B if self._of is None else np.searchsorted(self._of, number_B)
        return below_B - np.searchsorted(self._without_M, below_B)


def open_pairs(
    records: Records, selected: Selection, description: SourceDescription, config: DataConfig, name: str = ""
) -> Sides:
    kept_N, held_out_M = selected[:2]
    size = len(records) if kept_N is None else len(kept_N)
    held_out = held_out_M if kept_N is None else kept_N[held_out_M]
    return Sides(
        FilePairs(records, _Others(size, held_out_M, kept_N), description, config, name),
        FilePairs(records, held_out, description, config, name),
    )
