"""Captions as the released code cleans them before tokenizing."""

import html
import re
import string
from functools import lru_cache

import ftfy

_PUNCTUATION = str.maketrans("", "", string.punctuation)


@lru_cache(maxsize=2**16)  # captions come back every epoch
def clean(caption: str) -> str:
    """Mend broken unicode, undo HTML escapes twice, lower-case, drop punctuation, collapse white space.

    Source: ml-l3m ``HFTokenizer`` (mending, unescaping, lower case, white space) and the SigLIP tokenizer of
        transformers (punctuation). The paper mentions none of it.
    """
    caption = html.unescape(html.unescape(ftfy.fix_text(caption)))
    return re.sub(r"\s+", " ", caption.lower().translate(_PUNCTUATION)).strip()
