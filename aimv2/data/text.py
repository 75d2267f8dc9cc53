"""Cleaning of captions before tokenization, as in the released code."""

import html
import re
import string
from functools import lru_cache

import ftfy

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
