import itertools

import numpy as np
import pytest
from aimv2.base.errors import REASONS
from aimv2.tools.data.audit.findings import Copies, Part, captions, examples, images, leaks
from aimv2.tools.data.audit.recognise import IMAGE_FORMATS, SCRIPTS
from aimv2.tools.data.audit.survey import FACT, NO_PROBLEM
from hypothesis import given, settings
from hypothesis import strategies as st

THRESHOLD = 6
LOOKS = [0, 0b1, 0b111111, 2**60 - 1, 2**60 - 2, 2**63]


def facts(rows):
    """Return facts of images given as (content, look, caption); content 0 is a missing image, look None is flat."""
    fact_N = np.zeros(len(rows), FACT)
    fact_N["row"] = range(len(rows))
    fact_N["caption_problem"] = NO_PROBLEM
    for fact, (content, look, caption) in zip(fact_N, rows, strict=True):
        fact["problem"] = NO_PROBLEM if content else REASONS.index("missing image")
        fact["content"], fact["look"], fact["is_flat"] = content, look or 0, look is None
        fact["caption"][0] = caption
    return fact_N


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
def test_leaks_are_those_of_the_obvious_loop(train, held_out):
    parts = [Part("mine", "held-out", 100, facts(held_out)), Part("mine", "train", 100, facts(train))]
    (leak,) = leaks(parts, Copies(parts, THRESHOLD))
    present = [row for row in held_out if row[0]]
    same = [any(row[0] == other[0] for other in train) for row in present]
    like = [any(near(row, other) for other in train) for row in present]
    told = [any(near(row, other) and row[2] == other[2] != 0 for other in train) for row in present]
    assert (leak.of, leak.within, leak.num) == ("mine held-out", "mine train", len(present))
    assert leak.exact == sum(same)
    assert leak.near == sum(one or other for one, other in zip(same, like, strict=True))
    assert leak.near_and_caption == sum(told)


@settings(max_examples=60)
@given(ROWS)
def test_copies_are_those_of_the_obvious_loop(rows):
    part = Part("mine", "train", 100, facts(rows))
    found = images(part.fact_N, Copies([part], THRESHOLD))
    present = [row for row in rows if row[0]]
    assert found["exact copies"] == len(present) - len({row[0] for row in present})
    assert found["with a near copy"] == sum(
        any(near(row, other) and row[0] != other[0] for other in rows) for row in rows
    )
    assert found["problems"] == ({"missing image": len(rows) - len(present)} if len(present) < len(rows) else {})


def test_every_part_is_compared_with_every_other():
    names = [("a", "train"), ("a", "held-out"), ("b", "train"), ("b", "test")]
    parts = [Part(*name, 1, facts([(1, 5, 7)])) for name in names]
    found = leaks(parts, Copies(parts, THRESHOLD))
    pairs = {frozenset((leak.of, leak.within)) for leak in found}
    assert pairs == set(map(frozenset, itertools.combinations([f"{source} {side}" for source, side in names], 2)))
    assert all(leak.within.endswith("train") for leak in found if "train" in leak.of)
    assert {(leak.exact, leak.near, leak.near_and_caption) for leak in found} == {(1, 1, 1)}


@settings(max_examples=40)
@given(ROWS, ROWS)
def test_examples_are_near_and_have_other_bytes(one, other):
    rows = [one, other]
    parts = [Part("mine", "train", 100, facts(one)), Part("mine", "held-out", 100, facts(other))]
    found = examples(parts, Copies(parts, THRESHOLD), 5)
    everything = [row for of_part in rows for row in of_part]
    exist = any(near(a, b) and a[0] != b[0] for a, b in itertools.combinations(everything, 2))
    assert bool(found) == exist
    assert len(found) <= 5
    for (part, place), (other_part, other_place), distance in found:
        a, b = rows[part][place], rows[other_part][other_place]
        assert near(a, b)
        assert a[0] != b[0]
        assert distance == (a[1] ^ b[1]).bit_count()
    assert [distance for *_, distance in found] == sorted(distance for *_, distance in found)


def test_captions_are_counted():
    fact_N = facts([(1, 5, caption) for caption in (11, 11, 12, 13, 13, 13, 0, 0)])
    fact_N["caption_problem"][6:, 0] = [REASONS.index("empty caption"), REASONS.index("missing caption")]
    fact_N["words"][:6, 0] = [1, 1, 2, 3, 3, 3]
    fact_N["tokens"][:6, 0] = [5, 6, 7, 8, 9, 10]
    fact_N["script"][:6, 0] = SCRIPTS.index("Han")
    found = captions(fact_N, "short", 9, lambda place: f"caption of {place}")
    assert found["problems"] == {"empty caption": 1, "missing caption": 1}
    assert found["scripts"] == {"Han": 6}
    assert found["repeated"] == 3
    assert found["most frequent"] == [
        {"caption": "caption of 3", "times": 3},
        {"caption": "caption of 0", "times": 2},
    ]
    assert found["truncated"] == 2  # 9 and 10 tokens, and the end of the text
    assert (found["words"]["min"], found["words"]["50 %"], found["words"]["max"]) == (1, 2.5, 3)
    assert "tokens" not in captions(fact_N, "short", None, str)


def test_images_are_counted():
    fact_N = facts([(1, 5, 0), (2, 2**40, 0), (3, None, 0)])
    fact_N["width"], fact_N["height"], fact_N["num_bytes"] = [10, 20, 40], [20, 10, 10], [100, 0, 300]
    fact_N["format"] = [IMAGE_FORMATS.index(name) for name in ("PNG", "JPEG", "PNG")]
    fact_N["mode"] = [b"L", b"RGB", b"RGB"]
    part = Part("mine", "train", 3, fact_N)
    found = images(fact_N, Copies([part]))
    assert found["formats"] == {"PNG": 2, "JPEG": 1}
    assert found["modes"] == {"RGB": 2, "L": 1}
    assert found["one colour"] == 1
    assert found["shorter side in px"]["max"] == 10
    assert found["longer side in px"]["50 %"] == 20
    assert found["width / height"]["max"] == 4
    assert (found["bytes"]["min"], found["bytes"]["max"]) == (100, 300)


@pytest.mark.parametrize("num", [0, 1])
def test_parts_without_a_usable_image_have_no_copies(num):
    part = Part("mine", "train", 5, facts([(0, None, 0)] * num))
    assert images(part.fact_N, Copies([part]))["with a near copy"] == 0
    assert examples([part], Copies([part]), 3) == []
