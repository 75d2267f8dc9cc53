"""Captions of files as words: content words, and those that every caption has."""

from aimv2.data.sources.scene import Caption, WordClass
from aimv2.data.text import clean

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


def worded(text: str) -> Caption:
    """Return a caption as clean words; the class of content words is ``word``, that of the others ``other``."""
    words = tuple(clean(text).split())
    classes: tuple[WordClass, ...] = tuple("other" if word in FUNCTION_WORDS else "word" for word in words)
    return Caption(words, classes)
