import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from aimv2.base.errors import UsageError
from aimv2.datasets.description import read_source
from aimv2.datasets.open import open_source, prepare_source
from aimv2.tools.data.audit.command import audit, audit_command
from aimv2.tools.data.index import index_command
from PIL import Image

from aimv2.config.data_config import DataConfig

EVIL = "<script>alert(1)</script> <img src=x onerror=y> & {{ 7 * 7 }}"


def blobs(seed, side=60):
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def save(picture, path, caption=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)
    path.with_suffix(".txt").write_text(caption or f"picture {path.stem}")


@pytest.fixture
def described(tmp_path):
    """Return the description of 20 pictures, two exact and two near copies, and a broken file."""
    folder = tmp_path / "pictures"
    for number in range(20):
        save(blobs(number), folder / f"p{number:02d}.png")
    save(blobs(0), folder / "same.png")
    save(blobs(1), folder / "same2.png")
    save(blobs(2, 90), folder / "near.jpg", "picture p02", quality=60)
    save(blobs(3).convert("L"), folder / "grey.webp", EVIL)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "broken.txt").write_text(EVIL)
    path = tmp_path / "mine.yaml"
    path.write_text("folder: pictures\nshort: txt\nheld_out: {fraction: 0.3}\n")
    prepare_source(read_source(path))
    return path


@pytest.fixture
def labelled(tmp_path):
    """Return the description of an evaluation set with two pictures of the source and one of its own."""
    save(blobs(5, 80), tmp_path / "test" / "a" / "x.jpg")
    save(blobs(6), tmp_path / "test" / "b" / "y.png")
    save(blobs(1000), tmp_path / "test" / "b" / "z.png")
    path = tmp_path / "eval.yaml"
    path.write_text("test: {folder: test}\nlabel: folder\n")
    assert index_command([str(path)]) == 0
    return path


@pytest.fixture
def config(tiny, cache_dir):
    return replace(tiny, data=DataConfig(cache_dir=cache_dir, render_px=24))


def test_what_is_planted_is_found(described, labelled, config):
    values = audit([str(described), str(labelled)], config, 1000, 1).values
    mine, evaluation = values["sources"]
    assert mine["images"]["problems"] == {"undecodable image": 1}
    assert mine["images"]["formats"] == {"PNG": 22, "JPEG": 2, "WEBP": 1}
    assert mine["images"]["exact copies"] == 2
    assert mine["images"]["with a near copy"] == 4
    captions = mine["captions"]["short"]
    frequent = {row["caption"]: row["times"] for row in captions["most frequent"]}
    assert sorted(frequent.values()) == [2, 2]
    assert frequent["picture p02"] == 2
    assert evaluation["captions"] == {}
    opened = open_source(read_source(described))
    held_out = {opened.records.key(int(row)) for row in opened.held_out_M}
    originals = {"same.png": "p00.png", "same2.png": "p01.png", "near.jpg": "p02.png", "grey.webp": "p03.png"}
    split = {pair for pair in originals.items() if len(held_out & set(pair)) == 1}
    by_parts = {(leak["of"], leak["within"]): leak for leak in values["leakage"]}
    leak = by_parts["mine held-out", "mine train"]
    assert leak["near"] == len(split)
    assert leak["exact"] == sum(copy.startswith("same") for copy, _ in split)
    assert leak["near_and_caption"] == sum(copy == "near.jpg" for copy, _ in split)
    in_train, in_held_out = (by_parts["eval test", f"mine {side}"] for side in ("train", "held-out"))
    assert (in_train["exact"] + in_held_out["exact"], in_train["near"] + in_held_out["near"]) == (1, 2)


class Links(HTMLParser):
    """Collects what a page would load or run."""

    def __init__(self):
        super().__init__()
        self.sources, self.tags, self.text = [], set(), []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attributes)

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_contains_everything_and_runs_nothing(described, labelled, tmp_path, cache_dir, capsys):
    to = tmp_path / "audit"
    keys = [f"data.cache_dir={cache_dir}", f"to={to}", "workers=1"]
    assert audit_command([str(described), str(labelled), *keys]) == 0
    printed = capsys.readouterr().out
    unusable = "unusable: 1, such as broken.jpg (undecodable image)"
    assert f"mine: read 25 of 25 pairs; {unusable}; exact copies: 2, images with a near copy: 4" in printed
    page = Links()
    page.feed((to / "audit.html").read_text())
    assert "script" not in page.tags
    assert page.sources
    assert all(source.startswith("data:image/") for source in page.sources)
    text = " ".join(page.text)
    assert "alert1script" in text  # as cleaned captions are
    assert "random sample" not in text
    assert "broken.jpg" in text
    (mine, *_) = json.loads((to / "audit.json").read_text())["sources"]
    assert [(bad["key"], bad["reason"]) for bad in mine["unusable"]["first"]] == [("broken.jpg", "undecodable image")]
    assert sorted(path.name for path in to.iterdir()) == ["audit.html", "audit.json"]


def test_untrusted_names_are_escaped(tmp_path, cache_dir, config):
    folder = tmp_path / "pictures"
    for number in range(6):
        save(blobs(0, 60 + number), folder / f"<b>{number}<i>&amp;.png")
    path = tmp_path / "mine.yaml"
    path.write_text("folder: pictures\nshort: txt\nheld_out: {fraction: 0.5}\n")
    prepare_source(read_source(path))
    assert audit_command([str(path), f"data.cache_dir={cache_dir}", f"to={tmp_path / 'to'}", "workers=1"]) == 0
    page = Links()
    page.feed((tmp_path / "to" / "audit.html").read_text())
    assert {"b", "i"}.isdisjoint(page.tags)
    assert any("<b>" in text for text in page.text)


def test_a_sample_is_called_a_sample(tmp_path, cache_dir, capsys):
    keys = [f"data.cache_dir={cache_dir}", f"to={tmp_path}", "num=30", "data.scenes.num_objects=5"]
    keys += ["data.scenes.num_unseen=4", "workers=1"]
    assert audit_command(["openmoji_scenes", *keys]) == 0
    assert "read 60 of 1,100,000 pairs" in capsys.readouterr().out
    text = (tmp_path / "audit.html").read_text()
    assert "openmoji_scenes train, openmoji_scenes held-out are a random sample" in text
    assert "underestimates" in text


def test_a_set_without_captions_needs_no_tokenizer(labelled, config):
    page = audit([str(labelled)], config, 10, 1)
    assert page.values["tokenizer"] is None
    assert page.values["sources"][0]["captions"] == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["num=3"], "needs a source"),
        (["openmoji_scene"], "unknown source 'openmoji_scene'.*Did you mean"),
        (["openmoji", "openmoji"], "each source is needed once"),
        (["openmoji", "num=0"], "num: .*greater than 0"),
        (["openmoji", "workers=x"], "workers: "),
        (["missing.yaml"], "missing.yaml"),
    ],
)
def test_wrong_arguments_give_one_sentence(arguments, sentence, tmp_path):
    with pytest.raises(UsageError, match=sentence):
        audit_command([*arguments, f"to={tmp_path / 'to'}"])


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_usage_is_printed(arguments, capsys):
    assert audit_command(arguments) == (0 if arguments else 2)
    assert "usage: python -m aimv2 data audit" in capsys.readouterr().out
