"""Texts as token ids of any text encoder. Letters: B texts, T tokens."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from aimv2.base.errors import UsageError
from aimv2.data.tokenizer import END_OF_TEXT, CaptionTokenizer


class Texts:
    """The tokenizer of a text encoder.

    One with the end-of-text of our runs is used as in training. Any other, such as LiT's, adds its own special tokens,
    by the rule in its file.
    """

    def __init__(self, path: Path, *, max_tokens: int, end_id: int, vocab_size: int) -> None:
        """Read a ``tokenizer.json``.

        Args:
            max_tokens: T.
            end_id: end-of-text, at which the text encoder is pooled.
            vocab_size: of the text encoder.

        Raises:
            UsageError: the file is missing, is not a tokenizer, or is that of another text encoder.
        """
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises a bare Exception
            raise UsageError(f"{path} is not a readable tokenizer.json ({error})") from error
        largest = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        if largest >= vocab_size or self._tokenizer.id_to_token(end_id) is None:
            raise UsageError(
                f"{path} is not the tokenizer of these weights: its ids end at {largest}, and they have {vocab_size}"
                f" tokens, of which {end_id} ends a text"
            )
        self._max_tokens, self._end_id = max_tokens, end_id
        is_ours = self._tokenizer.token_to_id(END_OF_TEXT) == end_id
        self._ours = CaptionTokenizer(self._tokenizer) if is_ours else None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return tokens, int64 [B, T], padded with end-of-text, and the number of them up to the first: int64 [B]."""
        if self._ours is not None:
            token_BT = self._ours.encode(texts, self._max_tokens)
        else:
            token_BT = np.full((len(texts), self._max_tokens), self._end_id, dtype=np.int64)
            for row, encoding in zip(token_BT, self._tokenizer.encode_batch(list(texts)), strict=True):
                ids = encoding.ids[: self._max_tokens]
                row[: len(ids)] = ids
            token_BT[:, -1] = self._end_id  # of a text that is cut
        return token_BT, (token_BT == self._end_id).argmax(axis=1) + 1
