import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimv2.data.text import clean


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("Waving Hand: Light  Skin\tTone", "waving hand light skin tone"),
        ("Fish &amp;amp; Chips!", "fish chips"),
        ("caf\u00c3\u00a9", "café"),
        ("  ", ""),
        ("first-aid kit's", "firstaid kits"),
    ],
)
def test_clean_follows_the_released_code(raw, cleaned):
    assert clean(raw) == cleaned


@settings(max_examples=50)
@given(st.text())
def test_clean_gives_lower_case_words_with_single_spaces(text):
    cleaned = clean(text)
    assert cleaned == cleaned.lower()
    assert not set(cleaned) & set(string.punctuation)
    assert cleaned == " ".join(cleaned.split())
