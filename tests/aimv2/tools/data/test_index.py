import json
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from aimv2.base.errors import UsageError
from aimv2.datasets.description import read_labelled, read_source
from aimv2.datasets.files import GROUP
from aimv2.datasets.open import open_location, open_source
from aimv2.tools.data.index import index_command
from tests.helpers.own_data import write
from tests.helpers.shards import write_shards


def describe(where, **values):
    path = where / "set.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_source_is_indexed(tmp_path, capsys):
    write_shards(tmp_path)
    path = describe(tmp_path, shards="{00000..00002}.tar", short="txt")
    assert index_command([str(path), "workers=1"]) == 0
    printed = capsys.readouterr().out
    assert "samples: 15" in printed
    assert "members: jpg, txt, json" in printed
    assert f"index: {tmp_path / 'set.index'}" in printed
    opened = open_source(read_source(path))
    assert opened.records.field(4, "txt") == "text 000004"
    assert 0 < len(opened.held_out_M) < 15


def test_every_split_of_a_labelled_set_is_indexed(tmp_path, capsys):
    write_shards(tmp_path, num_shards=3)
    splits = {split: {"shards": f"0000{number}.tar"} for number, split in enumerate(("train", "validation", "test"))}
    path = describe(tmp_path, label="txt", **splits)
    assert index_command([str(path), "workers=1"]) == 0
    assert capsys.readouterr().out.count("samples: 5") == 3
    described = read_labelled(path)
    texts = [open_location(place).field(0, "txt") for place in (described.train, described.validation, described.test)]
    assert texts == ["text 000000", "text 000005", "text 000010"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_index_that_a_signal_interrupts_is_resumed(tmp_path, monkeypatch, capsys, number):
    num = 2 * GROUP
    for name in range(num):
        write(tmp_path / f"pictures/a/{name:03}.jpg", f"image {name}")
    path, real_open = describe(tmp_path, folder="pictures", short="folder"), open

    def interrupted(file, *args, **kwargs):
        if str(file).endswith(f"{num - 1}.jpg"):
            signal.raise_signal(number)
        return real_open(file, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", interrupted)
        with pytest.raises(KeyboardInterrupt):
            index_command([str(path), "workers=1"])
    assert index_command([str(path), "workers=1"]) == 0
    assert f"read {GROUP} files\nnot read again, because size and times have not changed: {GROUP} files" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.yaml"], r"none\.yaml cannot be read"),
        (["none.tar"], "'none.tar' is no description .*write one with a line: shards: none.tar"),
        (["none.yaml", "workers=0"], "workers.*greater than 0"),
        (["openmoji_scene", "audit=true"], "unknown source 'openmoji_scene'.*Did you mean"),
        (["openmoji", "openmoji", "audit=true"], "each source is needed once"),
        (["openmoji", "audit=true", "num=0"], "num: .*greater than 0"),
        (["openmoji", "audit=true", "nom=3"], "unknown key 'nom'"),
        (["none.yaml", "workers=two"], "workers"),
        (["none.yaml", "num=3", "data.max_pixels=9"], "num=3 data.max_pixels=9: that is of an audit; type audit=true"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        index_command(arguments)
    assert list(Path().iterdir()) == []


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
    opened = open_source(read_source(described))
    held_out = {opened.records.key(int(row)) for row in opened.held_out_M}
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


def test_an_audit_of_built_in_pairs_says_what_it_sampled(tmp_path, cache_dir, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys = [f"data.cache_dir={cache_dir}", "num=30", "data.scenes.num_objects=5", "data.scenes.num_unseen=4"]
    assert index_command(["openmoji_scenes", "audit=true", "workers=1", *keys]) == 0
    assert "read 60 of 1,100,000 pairs, a random sample, which underestimates copies" in capsys.readouterr().out
