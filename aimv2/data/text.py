"""Cleaning of captions before tokenization, as in the released code."""

import html
import re
import string
from functools import lru_cache

import ftfy

_PUNCTUATION = str.maketrans("", "", string.punctuation)


@lru_cache(maxsize=2**16)  # captions repeat every epoch
def clean(caption: str) -> str:
    """Fix broken unicode, undo HTML escapes twice, lower-case, drop punctuation, collapse white space.

    Source: ml-l3m ``HFTokenizer`` (unicode, escapes, lower case, white space) and the SigLIP tokenizer of
        transformers (punctuation). The paper does not describe it.
    """
    caption = html.unescape(html.unescape(ftfy.fix_text(caption)))
    return re.sub(r"\s+", " ", caption.lower().translate(_PUNCTUATION)).strip()
