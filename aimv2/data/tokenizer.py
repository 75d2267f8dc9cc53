"""Conversion of captions to token ids and back."""

import hashlib
import html
import re
import string
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, takewhile
from pathlib import Path

import ftfy
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from aimv2.base.errors import UsageError

_PUNCTUATION = str.maketrans("", "", string.punctuation)


# Captions of files are checked and then tokenized: twice within a batch. More entries would hardly be found again, and
# take about 0.4 kB each in every loader worker.
@lru_cache(maxsize=2**12)
def clean(caption: str) -> str:
    """Fix broken unicode, undo HTML escapes twice, lower-case, drop punctuation, collapse white space.

    Source: ml-l3m ``HFTokenizer`` (unicode, escapes, lower case, white space) and the SigLIP tokenizer of
        transformers (punctuation). The paper does not describe it.
    """
    caption = html.unescape(html.unescape(ftfy.fix_text(caption)))
    return re.sub(r"\s+", " ", caption.lower().translate(_PUNCTUATION)).strip()


END_OF_TEXT = "</s>"
SPECIAL_TOKENS = ("<pad>", END_OF_TEXT, "<unk>")  # end-of-text is 1, as in SigLIP's tokenizer


class CaptionTokenizer:
    """A ``tokenizers`` tokenizer with SigLIP's conventions: no BOS, and one id for both end-of-text and padding.

    Attributes:
        end_id: id of end-of-text and padding.
        fingerprint: hash of the whole tokenizer, for the manifest.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.end_id = tokenizer.token_to_id(END_OF_TEXT)
        if self.end_id is None:
            raise UsageError(f"the tokenizer has no {END_OF_TEXT!r} token, which ends and pads captions")
        tokenizer.no_padding()
        tokenizer.no_truncation()

    @classmethod
    def train(cls, captions: Iterable[str], vocab_size: int) -> "CaptionTokenizer":
        """Train a byte-level BPE of at most ``vocab_size`` tokens. The same captions give the same tokenizer."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator((clean(caption) for caption in captions), trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path) -> "CaptionTokenizer":
        """Read a ``tokenizer.json``, such as one of ``train`` or the public SigLIP one."""
        try:
            return cls(Tokenizer.from_file(str(path)))
        except UsageError:
            raise
        except Exception as error:  # the library raises a bare Exception
            raise UsageError(f"data.tokenizer={str(path)!r} is not a readable tokenizer.json ({error})") from error

    def to_json(self) -> str:
        """Return the content of a ``tokenizer.json``."""
        return str(self._tokenizer.to_str(pretty=True))

    @property
    def vocab_size(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def encode(self, captions: Sequence[str], max_tokens: int) -> np.ndarray:
        """Clean, tokenize, truncate so that end-of-text fits, and pad: int64 [B, max_tokens]."""
        encodings = self._tokenizer.encode_batch_fast(
            [clean(caption) for caption in captions], add_special_tokens=False
        )
        token_BT = np.full((len(captions), max_tokens), self.end_id, dtype=np.int64)
        for row, encoding in zip(token_BT, encodings, strict=True):
            ids = encoding.ids[: max_tokens - 1]
            row[: len(ids)] = ids
        return token_BT

    def num_bytes(self, captions: Sequence[str], max_tokens: int) -> np.ndarray:
        """Return the bytes of each cleaned caption that the tokens of ``encode`` cover: int64 [B]."""
        cleaned = [clean(caption) for caption in captions]
        encodings = self._tokenizer.encode_batch(cleaned, add_special_tokens=False)
        num_bytes_B = np.empty(len(captions), dtype=np.int64)
        for row, (caption, encoding) in enumerate(zip(cleaned, encodings, strict=True)):
            end = len(caption) if len(encoding.ids) < max_tokens else encoding.offsets[max_tokens - 2][1]
            num_bytes_B[row] = len(caption[:end].encode())
        return num_bytes_B

    def token_words(self, captions: Sequence[Sequence[str]], max_tokens: int) -> np.ndarray:
        """Return the index of the word that each token of ``encode`` belongs to: int64 [B, max_tokens].

        End-of-text and padding have -1. A token that is only the space before a word belongs to that word.
        """
        texts = [" ".join(words) for words in captions]
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        word_BT = np.full((len(captions), max_tokens), -1, dtype=np.int64)
        for row, words, encoding in zip(word_BT, captions, encodings, strict=True):
            next_start_W = list(accumulate(len(word) + 1 for word in words))
            for place, (start, end) in enumerate(encoding.offsets[: max_tokens - 1]):
                last = max(start, end - 1)
                row[place] = bisect_right(next_start_W, last + 1)
        return word_BT

    def lengths(self, token_BT: np.ndarray) -> np.ndarray:
        """Return the number of tokens up to and including the first end-of-text: int64 [B], 1..T."""
        length_B: np.ndarray = (token_BT == self.end_id).argmax(axis=1) + 1
        return length_B

    def supervised(self, token_BT: np.ndarray, *, supervise_eos: bool) -> np.ndarray:
        """Return True for tokens with a text loss, bool [B, T]: the content and, if requested, one end-of-text."""
        supervised_BT: np.ndarray = token_BT != self.end_id
        if supervise_eos:
            supervised_BT |= np.arange(token_BT.shape[1]) == supervised_BT.sum(axis=1)[:, None]
        return supervised_BT

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of the tokens before the first end-of-text."""
        ids = list(takewhile(lambda token: token != self.end_id, tokens))
        return str(self._tokenizer.decode(ids)).strip()
