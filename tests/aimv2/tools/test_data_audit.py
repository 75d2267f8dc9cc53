"""Audits of data, with planted faults, copies and leaks."""

import io
import itertools
import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from rich.console import Console
from sklearn.datasets import load_sample_images

from aimv2.config.data_config import DataConfig
from aimv2.data.pairs import Pairs
from aimv2.datasets.description import read_source
from aimv2.datasets.file_pairs import FilePairs
from aimv2.datasets.open import open_location, open_records, prepare_location
from aimv2.tools.data_audit import (
    SCHEMA,
    THRESHOLD,
    AuditedSide,
    audit,
    chosen_rows,
    facts_of,
    leaked,
    leaks,
    look,
    near_looks,
    near_pairs,
    opened_sides,
)
from aimv2.tools.data_index import index_command
from tests.helpers.marks import exhaustive
from tests.helpers.own_data import pictured_source, source

EVIL = "[red]<script> & {{ 7 * 7 }}"


def save(seed, path, side=60, caption=None, mode="RGB", **options):
    """Save a picture of random blobs, with its caption beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).convert(mode).save(path, **options)
    path.with_suffix(".txt").write_text(caption or f"picture {path.stem}")


@pytest.fixture
def described(tmp_path):
    """Return the description of 20 pictures, two exact and two near copies, and a broken file."""
    folder = tmp_path / "pictures"
    for number in range(20):
        save(number, folder / f"p{number:02d}.png")
    save(0, folder / "same.png")
    save(1, folder / "same2.png")
    save(2, folder / "near.jpg", 90, "picture p02", quality=60)
    save(3, folder / "grey.webp", caption=EVIL, mode="L")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "broken.txt").write_text(EVIL)
    path = tmp_path / "mine.yaml"
    path.write_text("folder: pictures\nshort: txt\nheld_out: {fraction: 0.3}\n")
    return path


def test_what_is_planted_is_found(described, tmp_path, cache_dir, capsys):
    save(5, tmp_path / "test" / "a" / "x.jpg", 80)
    save(6, tmp_path / "test" / "b" / "y.png")
    save(1000, tmp_path / "test" / "b" / "z.png")
    labelled = tmp_path / "eval.yaml"
    labelled.write_text("test: {folder: test}\nlabel: folder\n")
    arguments = [str(described), str(labelled), "audit=true", f"data.cache_dir={cache_dir}", "workers=1"]
    assert index_command(arguments) == 0
    printed = capsys.readouterr().out
    values = json.loads((tmp_path / "mine.audit.json").read_text())
    mine, evaluation = values["sources"]
    assert mine["unusable"] == {"undecodable image": 1}
    assert mine["exact copies"] == 2
    records, selected = open_records(read_source(described))
    held_out = {records.key(int(row)) for row in selected.held_out_M}
    originals = {"same.png": "p00.png", "same2.png": "p01.png", "near.jpg": "p02.png", "grey.webp": "p03.png"}
    split = {pair for pair in originals.items() if len(held_out & set(pair)) == 1}
    leaks = {(leak["of"], leak["within"]): leak for leak in values["leakage"]}
    leak = leaks["mine held-out", "mine train"]
    assert leak["near"] == len(split)
    assert leak["exact"] == sum(copy.startswith("same") for copy, _ in split)
    assert {frozenset(keys) for keys in leak["first"]} == set(map(frozenset, split))
    in_train, in_held_out = (leaks["eval test", f"mine {side}"] for side in ("train", "held-out"))
    assert (in_train["exact"] + in_held_out["exact"], in_train["near"] + in_held_out["near"]) == (1, 2)
    unusable = "unusable: 1, such as broken.jpg (undecodable image)"
    assert f"mine: read 25 of 25 pairs; {unusable}; exact copies: 2" in printed
    assert (evaluation["name"], evaluation["pairs"], evaluation["read"]) == ("eval", 3, 3)

    keys = (tmp_path / "mine.leaks.txt").read_text()
    assert keys.splitlines() == values["leaked"][str(described)]
    described.write_text(described.read_text() + "exclude: mine.leaks.txt\n")
    assert index_command(arguments) == 0
    assert f"{len(keys.splitlines())} samples are excluded" in capsys.readouterr().out
    values = json.loads((tmp_path / "mine.audit.json").read_text())
    assert {leak["near"] for leak in values["leakage"] if leak["within"] == "mine train"} == {0}
    assert (tmp_path / "mine.leaks.txt").read_text() == keys


def test_an_audit_says_what_it_sampled(described, capsys):
    assert index_command([str(described), "audit=true", "num=3", "workers=1"]) == 0
    assert "read 6 of 25 pairs, a random sample, which underestimates copies" in capsys.readouterr().out


# Audits


LOOKS = [0, 0b1, 0b111111, 2**60 - 1, 2**60 - 2, 2**63, 0x5555 << 40, 0x5555 << 40 | 0b11]


def facts(*sides):
    """Return facts of images, given by side as (content, look); content 0 is a missing image."""
    rows = [
        {
            "side": side,
            "row": row,
            "problem": None if content else "missing image",
            "content": content or None,
            "look": look if content else None,
            "mirrored": mirrored(look) if content else None,
        }
        for side, images in enumerate(sides)
        for row, (content, look) in enumerate(images)
    ]
    return pl.DataFrame(rows, SCHEMA)


def mirrored(look):
    """Return a hash as far from another one as that of a mirrored image."""
    return None if look is None else look ^ (0x5555 << 40)


def is_copy(one, other):
    """Whether images, of which the first is there, are equal or near, mirrored or not."""
    (content, look), (other_content, other_look) = one, other
    if content == other_content:
        return True
    if not other_content or look is None or other_look is None:
        return False
    return any((own ^ other_look).bit_count() <= THRESHOLD for own in (look, mirrored(look)))


# A file has one perceptual hash, so the content is drawn with it.
IMAGE = st.tuples(st.sampled_from([0, 1, 2, 3]), st.sampled_from([*LOOKS, None])).map(
    lambda found: (0 if not found[0] else 1 + found[0] + 10 * [*LOOKS, None].index(found[1]), found[1])
)
ROWS = st.lists(IMAGE, min_size=1, max_size=12)


class Numbered(Pairs):
    """Pairs whose keys are their rows."""

    def __len__(self):
        return 100

    def keys(self, row_B):
        return list(map(str, row_B.tolist()))

    def sample_ids(self, row_B):
        return row_B

    def picture(self, row):
        raise AssertionError("findings read no pictures")

    def caption(self, row, kind, choice=0.0):
        raise AssertionError("or captions")


def sides(*names):
    return [AuditedSide(f"{source}.yaml", side, Numbered(), ()) for source, side in map(str.split, names)]


@settings(max_examples=60)
@given(ROWS, ROWS)
def test_leaks_are_those_of_the_obvious_loop(held_out, train):
    fact_N = facts(held_out, train)
    (leak,) = leaks(sides("mine held-out", "mine train"), fact_N, near_looks(fact_N))
    present = [row for row in held_out if row[0]]
    same = [any(row[0] == other[0] for other in train) for row in present]
    like = [any(is_copy(row, other) for other in train) for row in present]
    assert (leak["of"], leak["within"], leak["num"]) == ("mine held-out", "mine train", len(present))
    assert leak["exact"] == sum(same)
    assert leak["near"] == sum(like)
    assert len(leak["first"]) == len({key for key, _ in leak["first"]}) == leak["near"]
    for key, other_key in leak["first"]:
        assert is_copy(held_out[int(key)], train[int(other_key)])


@settings(max_examples=60)
@given(ROWS, ROWS, ROWS, ROWS)
def test_leaked_pairs_are_all_training_pairs_with_a_copy_in_another_side(held_out, train, own_train, test):
    fact_N = facts(held_out, train, own_train, test)
    names = ("mine held-out", "mine train", "pets train", "pets test")
    expected = {
        f"{name}.yaml": [
            str(number)
            for number, row in enumerate(rows)
            if row[0] and any(is_copy(row, other) for other in [*held_out, *test])
        ]
        for name, rows in (("mine", train), ("pets", own_train))
    }
    assert leaked(sides(*names), fact_N, near_looks(fact_N)) == expected


def test_every_side_is_compared_with_every_other():
    names = ["a train", "a held-out", "b train", "b test"]
    fact_N = facts(*[[(1, 5)]] * 4)
    found = leaks(sides(*names), fact_N, near_looks(fact_N))
    pairs = {frozenset((leak["of"], leak["within"])) for leak in found}
    assert pairs == set(map(frozenset, itertools.combinations(names, 2)))
    assert all(leak["within"].endswith("train") for leak in found if "train" in leak["of"])
    assert {(leak["exact"], leak["near"]) for leak in found} == {(1, 1)}


def test_facts_are_those_of_the_files(tmp_path):
    path = pictured_source(tmp_path / "pictures", 12, bad={0: "image", 1: "empty", 2: "caption"})
    found = {}
    for side in opened_sides((str(path),), DataConfig()):
        assert side.kinds == ("short",)
        found |= {side.key(row)[:2]: facts_of(side, row, 10**6) for row in range(len(side.pairs))}
    assert len(found) == len({facts["content"] for facts in found.values()}) == 12
    problems = {key: facts["problem"] for key, facts in found.items() if facts["problem"]}
    assert problems == {"00": "undecodable image", "01": "empty caption", "02": "missing caption"}


@pytest.mark.exhaustive
def test_processes_find_the_same(described):
    prepare_location(read_source(described))
    one, two = (audit([str(described)], DataConfig(), 100, workers, Console(quiet=True)) for workers in (1, 2))
    assert one == two


def test_a_sample_of_rows_is_without_repetition_and_over_all_rows(pairs):
    pairs = pairs.train.parts["openmoji_scenes"]
    row_N = chosen_rows(pairs, 100)
    assert len(set(row_N.tolist())) == 100
    assert row_N.tolist() == sorted(row_N.tolist())
    assert 120 < row_N.mean() < 280  # of 400
    assert chosen_rows(pairs, 400).tolist() == list(range(400))


def test_splits_of_a_labelled_set_are_its_sides(described, tmp_path):
    path = tmp_path / "labelled.yaml"
    path.write_text("train: {folder: pictures}\ntest: {folder: pictures}\nlabel: folder\nname: cats\n")
    assert index_command([str(path)]) == 0
    found = opened_sides((str(path),), DataConfig())
    assert [(side.name, len(side.pairs)) for side in found] == [("cats train", 25), ("cats test", 25)]
    assert facts_of(found[1], 3, 10**6)["problem"] is None


def test_images_are_compared_upright_and_within_the_limit(tmp_path):
    picture = Image.effect_noise((8, 8), 90).convert("RGB").resize((64, 64), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 3
    for name, image, options in (
        ("a", picture, {}),
        ("b", picture.rotate(180), {"exif": exif}),
        ("c", picture.rotate(180), {}),
        ("d", picture.resize((80, 80)), {}),
    ):
        image.save(tmp_path / f"{name}.png", **options)
    (tmp_path / "a.txt").write_text("noise")
    description = source(tmp_path, folder=".", held_out={"fraction": 0.5})
    prepare_location(description)
    records = open_location(description)
    side = AuditedSide("mine", "train", FilePairs(records, range(4), description, DataConfig()), ())
    upright, turned, other, large = (facts_of(side, row, 64 * 64) for row in range(4))
    assert (upright["look"] ^ turned["look"]).bit_count() <= 2
    assert (upright["look"] ^ other["look"]).bit_count() > 10
    assert (large["problem"], large.get("look")) == ("image over the pixel limit", None)


def photographs(num):
    """Return parts of two photographs, as many of each."""
    found = []
    for number, photograph in enumerate(load_sample_images().images):
        generator = np.random.default_rng(number)
        for _ in range(num // 2):
            side = int(generator.integers(120, 260))
            top, left = (int(generator.integers(0, length - side)) for length in photograph.shape[:2])
            part = Image.fromarray(photograph[top : top + side, left : left + side])
            found.append(np.asarray(part.resize((224, 224), Image.Resampling.BICUBIC)))
    return found


def recompressed(image):
    image.save(content := io.BytesIO(), "JPEG", quality=40)
    return Image.open(content)


@pytest.mark.parametrize(
    ("change", "least", "most"),
    [
        (recompressed, 0.95, 1),
        exhaustive(lambda image: image.resize((112, 112), Image.Resampling.BICUBIC), 0.95, 1),
        exhaustive(lambda image: image.convert("L").convert("RGB"), 0.95, 1),
        exhaustive(lambda image: ImageEnhance.Contrast(image).enhance(1.3), 0.95, 1),
        (lambda image: image.crop((6, 6, 218, 218)), 0.4, 1),
        (lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 0, 0.05),
        (lambda image: recompressed(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)), 0.95, 1),
    ],
    ids=["jpeg", "half", "grey", "contrast", "cropped", "mirrored", "mirrored back"],
)
def test_changed_photographs_are_found(change, least, most, request):
    pictures, step = photographs(120), -1 if "back" in request.node.name else 1
    changed = [look(np.asarray(change(Image.fromarray(picture)))[:, ::step]) for picture in pictures]
    found = [(look(picture) ^ other).bit_count() <= THRESHOLD for picture, other in zip(pictures, changed, strict=True)]
    assert least <= np.mean(found) <= most
    one, other = np.array([look(picture) for picture in pictures], np.uint64).reshape(2, -1)
    assert (np.bitwise_count(one[:, None] ^ other) <= THRESHOLD).mean() < 1e-3, "parts of different photographs"


def test_pictures_of_almost_one_colour_have_no_hash():
    picture = np.full((64, 64, 3), 200, np.uint8)
    assert look(picture) is None
    picture[:32] = 220
    assert look(picture) is not None


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(0, 9), st.lists(st.integers(0, 63), max_size=10))
def test_near_pairs_are_those_of_the_obvious_loop(seed, num, max_distance, flips):
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 2**64, num, dtype=np.uint64)
    near = [int(value) ^ (1 << bit) for value, bit in zip(values.tolist() * 10, flips, strict=False)]
    chain = [int(values[0]) ^ sum(1 << bit for bit in set(flips[:end])) for end in range(len(flips))]
    hash_N = np.unique(np.array([*values.tolist(), *near, *chain], dtype=np.uint64))
    expected = [
        [one, other]
        for one, other in itertools.combinations(range(len(hash_N)), 2)
        if (int(hash_N[one]) ^ int(hash_N[other])).bit_count() <= max_distance
    ]
    assert near_pairs(hash_N, max_distance).tolist() == expected


def test_groups_larger_than_a_chunk_are_complete_and_nothing_is_near_to_nothing():
    assert [near_pairs(np.zeros(num, dtype=np.uint64)).shape for num in (0, 1)] == [(0, 2)] * 2
    hash_N = np.arange(2500, dtype=np.uint64) << np.uint64(48)  # equal in most bands
    bits = np.arange(2500)
    expected = sum(int((np.bitwise_count(bits[place + 1 :] ^ bits[place]) <= 2).sum()) for place in range(2500))
    assert len(near_pairs(hash_N, 2)) == expected
