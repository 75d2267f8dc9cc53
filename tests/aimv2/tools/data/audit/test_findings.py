import itertools

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimv2.data.pairs import Pairs
from aimv2.tools.data.audit.findings import _examples, captions, images, leaks, near_looks
from aimv2.tools.data.audit.survey import SCHEMA, AuditedSide

THRESHOLD = 6
LOOKS = [0, 0b1, 0b111111, 2**60 - 1, 2**60 - 2, 2**63]


def facts(*sides):
    """Return facts of images, given by side as (content, look, caption); content 0 is a missing image."""
    rows = [
        {
            "side": side,
            "row": row,
            "problem": None if content else "missing image",
            "content": content or None,
            "look": look if content else None,
            "short hash": caption or None,
        }
        for side, images in enumerate(sides)
        for row, (content, look, caption) in enumerate(images)
    ]
    return pl.DataFrame(rows, SCHEMA)


def near(one, other):
    (content, look, _), (other_content, other_look, _) = one, other
    if not content or not other_content or look is None or other_look is None:
        return False
    return (look ^ other_look).bit_count() <= THRESHOLD


# A file has one perceptual hash, so the content is drawn with it.
IMAGE = st.tuples(st.sampled_from([0, 1, 2, 3]), st.sampled_from([*LOOKS, None])).map(
    lambda found: (0 if not found[0] else 1 + found[0] + 10 * [*LOOKS, None].index(found[1]), found[1])
)
ROWS = st.lists(
    st.tuples(IMAGE, st.sampled_from([0, 7, 8])).map(lambda row: (*row[0], row[1])), min_size=1, max_size=12
)


@settings(max_examples=60)
@given(ROWS, ROWS)
def test_leaks_are_those_of_the_obvious_loop(held_out, train):
    fact_N = facts(held_out, train)
    (leak,) = leaks(["mine held-out", "mine train"], fact_N, near_looks(fact_N))
    present = [row for row in held_out if row[0]]
    same = [any(row[0] == other[0] for other in train) for row in present]
    like = [any(near(row, other) for other in train) for row in present]
    told = [any(near(row, other) and row[2] == other[2] != 0 for other in train) for row in present]
    assert (leak["of"], leak["within"], leak["num"]) == ("mine held-out", "mine train", len(present))
    assert leak["exact"] == sum(same)
    assert leak["near"] == sum(one or other for one, other in zip(same, like, strict=True))
    assert leak["near_and_caption"] == sum(told)


@settings(max_examples=60)
@given(ROWS)
def test_copies_are_those_of_the_obvious_loop(rows):
    fact_N = facts(rows)
    found = images(fact_N, near_looks(fact_N))
    present = [row for row in rows if row[0]]
    assert found["exact copies"] == len(present) - len({row[0] for row in present})
    assert found["with a near copy"] == sum(
        any(near(row, other) and row[0] != other[0] for other in rows) for row in rows
    )
    assert found["problems"] == ({"missing image": len(rows) - len(present)} if len(present) < len(rows) else {})


def test_every_side_is_compared_with_every_other():
    names = ["a train", "a held-out", "b train", "b test"]
    fact_N = facts(*[[(1, 5, 7)]] * 4)
    found = leaks(names, fact_N, near_looks(fact_N))
    pairs = {frozenset((leak["of"], leak["within"])) for leak in found}
    assert pairs == set(map(frozenset, itertools.combinations(names, 2)))
    assert all(leak["within"].endswith("train") for leak in found if "train" in leak["of"])
    assert {(leak["exact"], leak["near"], leak["near_and_caption"]) for leak in found} == {(1, 1, 1)}


class Numbered(Pairs):
    """Pairs whose keys and captions are their rows."""

    def __len__(self):
        return 100

    def keys(self, row_B):
        return list(map(str, row_B.tolist()))

    def sample_ids(self, row_B):
        return row_B

    def picture(self, row):
        raise AssertionError("findings read no pictures")

    def caption(self, row, kind, choice=0.0):
        return type("Caption", (), {"text": f"caption of {row}"})


SIDES = [AuditedSide("mine", side, Numbered(), ("short",)) for side in ("train", "held-out")]


@settings(max_examples=40)
@given(ROWS, ROWS)
def test_examples_are_near_and_have_other_bytes(one, other):
    fact_N = facts(one, other)
    found = _examples(SIDES, fact_N, near_looks(fact_N))
    exist = any(near(a, b) and a[0] != b[0] for a, b in itertools.combinations([*one, *other], 2))
    assert bool(found) == exist
    by_name = {
        f"mine {side}: {row}": image
        for side, rows in (("train", one), ("held-out", other))
        for row, image in enumerate(rows)
    }
    for example in found:
        a, b = (by_name[key] for key in example["keys"])
        assert near(a, b)
        assert a[0] != b[0]
        assert example["distance"] == (a[1] ^ b[1]).bit_count()
    assert [example["distance"] for example in found] == sorted(example["distance"] for example in found)


def test_captions_are_counted():
    fact_N = facts([(1, 5, caption) for caption in (11, 11, 12, 13, 13, 13, 0, 0)]).with_columns(
        pl.Series("short problem", [None] * 6 + ["empty caption", "missing caption"]),
        pl.Series("short words", [1, 1, 2, 3, 3, 3, None, None]),
        pl.Series("short tokens", [5, 6, 7, 8, 9, 10, 0, 0]),
        pl.Series("short script", ["Han"] * 6 + [None] * 2),
    )
    found = captions(fact_N, "short", 9, SIDES)
    assert found["problems"] == {"empty caption": 1, "missing caption": 1}
    assert found["scripts"] == {"Han": 6}
    assert found["repeated"] == 3
    assert found["most frequent"] == [
        {"caption": "caption of 3", "times": 3},
        {"caption": "caption of 0", "times": 2},
    ]
    assert found["truncated"] == 2  # 9 and 10 tokens, and the end of the text
    assert (found["words"]["min"], found["words"]["50 %"], found["words"]["max"]) == (1, 2.5, 3)
    assert "tokens" not in captions(fact_N, "short", None, SIDES)


def test_images_are_counted():
    fact_N = facts([(1, 5, 0), (2, 2**40, 0), (3, None, 0)]).with_columns(
        width=pl.Series([10, 20, 40]),
        height=pl.Series([20, 10, 10]),
        bytes=pl.Series([100, None, 300]),
        format=pl.Series(["PNG", "JPEG", "PNG"]),
        mode=pl.Series(["L", "RGB", "RGB"]),
    )
    found = images(fact_N, near_looks(fact_N))
    assert found["formats"] == {"PNG": 2, "JPEG": 1}
    assert found["modes"] == {"RGB": 2, "L": 1}
    assert found["one colour"] == 1
    assert found["shorter side in px"]["max"] == 10
    assert found["longer side in px"]["50 %"] == 20
    assert found["width / height"]["max"] == 4
    assert (found["bytes"]["min"], found["bytes"]["max"]) == (100, 300)


@pytest.mark.parametrize("num", [0, 1])
def test_sides_without_a_usable_image_have_no_copies(num):
    fact_N = facts([(0, None, 0)] * num)
    assert images(fact_N, near_looks(fact_N))["with a near copy"] == 0
    assert _examples(SIDES, fact_N, near_looks(fact_N)) == []
