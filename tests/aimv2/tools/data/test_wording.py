"""Captions by their names and texts, and descriptions in YAML."""

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from aimv2.tools.data.wording import Seen, captions, described


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"txt": ["a dog"]}, {"short": "txt"}),
        ({"url": ["a"], "caption": ["a dog"]}, {"short": "caption"}),
        ({"re_caption": ["a dog on a lawn"], "org_caption": ["dog"]}, {"short": "org_caption", "dense": "re_caption"}),
        ({"title": ["dog"], "description": ["a dog on a lawn"]}, {"short": "title", "dense": "description"}),
        ({"description": ["a dog on a lawn"]}, {"short": "description"}),
        ({"txt": ["dog"], "json.caption": ["dog"], "json.key": ["1"], "json.sha256": ["2"]}, {"short": "txt"}),
        ({"key": ["1"], "sha256": ["2"], "split": ["train"]}, {}),
        ({"split": ["train"], "unusual": ["a dog"]}, {"short": "unusual"}),
        ({"": ["0"], "Beschreibung": ["ein Hund"]}, {"short": "Beschreibung"}),
        ({"longitude": ["east"], "belongs_to": ["a b"], "caption": ["a dog"]}, {"short": "caption"}),
        ({"filename": ["a.jpg"], "beschreibung": ["ein Hund"]}, {"short": "beschreibung"}),
        ({"author_name": ["A B"], "sentence": ["a dog"]}, {"short": "sentence"}),
        ({"Title": ["dog"], "Description": ["a dog on a lawn"]}, {"short": "Title", "dense": "Description"}),
        ({"altText": ["dog"], "json.reCaption": ["a dog on a lawn"]}, {"short": "altText", "dense": "json.reCaption"}),
        ({"标题": ["一 只 狗"]}, {"short": "标题"}),
    ],
)
def test_captions_are_chosen_by_names_and_lengths(texts, expected):
    assert captions(texts) == expected


@given(
    name=st.text(min_size=1, max_size=12),
    text=st.text(min_size=1, max_size=40),
    comment=st.text(max_size=40),
    folder=st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12),
)
@example(name="0", text="0", comment="", folder="\x85")
@example(name="\u2028", text="0", comment="", folder="\u2029 ")
def test_names_from_data_are_names_and_no_yaml(tmp_path_factory, name, text, comment, folder):
    target = tmp_path_factory.getbasetemp() / "mine.yaml"
    place = {"folder": str(target.parent / folder), "table": "/elsewhere/t.csv"}
    written = described(Seen(place, {"caption": ["a dog", text], name: ["other"]}, [comment]), target)
    found = yaml.safe_load(written)
    assert set(found) - {"dense"} == {"folder", "table", "short", "licence"}
    assert (target.parent / found["folder"]).resolve() == (target.parent / folder).resolve()
    assert found["short"] in ("caption", name)
