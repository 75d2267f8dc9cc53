"""Ten layouts that people have, from the path to the first batch, and what must not be mixed."""

import json
import re
from dataclasses import replace

import datasets
import pytest
import yaml

from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import prepare
from aimv2.datasets import plugin
from aimv2.datasets.description import read_source
from aimv2.request.resolve import resolve
from aimv2.tools.data.describe import describe_command
from tests.helpers.layouts import LAYOUTS, NUM, as_hub, as_two_splits, caption, files
from tests.helpers.marks import everyday
from tests.helpers.own_data import picture, write


@pytest.fixture(autouse=True, scope="module")
def _no_bars():
    datasets.disable_progress_bars()


@pytest.mark.parametrize("layout", everyday(["webdataset", "csv", "folders by class"], LAYOUTS))
def test_a_layout_is_two_commands_from_its_first_batch(layout, tmp_path, monkeypatch, capsys, tiny):
    make, field = LAYOUTS[layout]
    path = make(tmp_path / "mine")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert describe_command([str(path), "to=mine.yaml"]) == 0
    assert f"samples: {NUM}" in capsys.readouterr().out
    assert list(read_source(tmp_path / "here/mine.yaml").short) == [field]

    config = resolve(replace(tiny, data=replace(tiny.data, sources=("mine.yaml",), dense_fraction=0.0)))
    data = prepare(config.data, config.model.vocab_size)
    batch = TrainBatches(config, data.train, data.tokenizer)[0]
    assert len(batch.image) == 8
    assert not batch.bad
    for pairs in (data.train.parts["mine"], data.held_out.parts["mine"]):
        for row in range(len(pairs)):
            number = int(pairs.text(row, "short").split()[-1])
            found = pairs.picture(row)
            same = range(number, NUM, 4) if layout == "folders by class" else [number]
            assert found in [picture(each, "PNG" if layout == "webdataset" else "JPEG") for each in same]


def test_the_description_has_comments_on_what_was_guessed(tmp_path, capsys):
    as_hub(tmp_path / "mine")
    target = tmp_path / "own.yaml"
    assert describe_command([str(tmp_path / "mine"), f"to={target}", "index=false"]) == 0
    text = target.read_text()
    assert text in capsys.readouterr().out
    assert yaml.safe_load(text) == {"parquet": "mine/data/train-*.parquet", "short": "caption", "licence": ""}
    assert "# The split train; left out: test." in text
    assert "short: caption  # such as 'a picture of number 0'" in text
    assert not (tmp_path / "own.index").exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("none", "none does not exist"),
        ("empty", r"empty has no images \(jpg, jpeg, png, webp\), no .tar files, no Parquet files with images"),
        ("a.csv", r"a\.csv has no column with paths of images that exist"),
        ("a.doc", r"a\.doc is no folder, \.tar file or table"),
        ("broken.tar", r"broken\.tar cannot be read"),
        ("silent", "no captions are seen: they are a column, or in files beside the images"),
        ("a[1]", "which are signs of patterns; rename it"),
        ("pointer.parquet", r"pointer\.parquet cannot be read"),
    ],
)
def test_what_is_not_known_is_one_sentence(tmp_path, name, sentence, refusal):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "a.csv", "image,caption\nnone.jpg,one\n")
    write(tmp_path / "a.doc", "")
    write(tmp_path / "broken.tar", "no archive")
    write(tmp_path / "silent/a.jpg", picture(0))
    write(tmp_path / "pointer.parquet", "version https://git-lfs.github.com/spec/v1")
    found = refusal(describe_command, [str(tmp_path / name), f"to={tmp_path / 'mine.yaml'}"])
    assert re.search(sentence, found)
    assert not (tmp_path / "mine.yaml").exists()


def test_an_existing_description_stays(tmp_path, refusal):
    files(tmp_path / "mine")
    target = write(tmp_path / "mine.yaml", "mine")
    assert "mine.yaml exists; choose another name with to=" in refusal(
        describe_command, [str(tmp_path / "mine"), f"to={target}"]
    )
    assert target.read_text() == "mine"


def pairs_of(target, tiny):
    """Return the number in each text, and the number whose picture it has."""
    numbers = {picture(number, "PNG"): number for number in range(200)}
    sides = plugin.open_source(str(target), replace(tiny.data, sources=(str(target),)))
    return [
        (int(pairs.text(row, "short").split()[-1]), numbers[pairs.picture(row)])
        for pairs in (sides.train, sides.held_out)
        for row in range(len(pairs))
    ]


@pytest.mark.parametrize("given", ["train.csv", "train", "test.csv", "test"])
def test_a_table_and_a_folder_of_a_split_belong_together(tmp_path, tiny, given, capsys):
    as_two_splits(tmp_path / "mine")
    target = tmp_path / "own.yaml"
    assert describe_command([str(tmp_path / "mine" / given), f"to={target}"]) == 0
    found = pairs_of(target, tiny)
    assert len(found) == NUM
    assert all(text == shown for text, shown in found)
    assert all((text >= 100) is given.startswith("test") for text, _ in found)


def test_files_of_img2dataset_are_no_tables(tmp_path, tiny, capsys):
    for number in range(20):
        about = {"caption": caption(number), "url": "https://example.com", "file_name": f"{number:09}.png"}
        write(tmp_path / f"mine/00000/{number:09}.png", picture(number, "PNG"))
        write(tmp_path / f"mine/00000/{number:09}.txt", caption(number))
        write(tmp_path / f"mine/00000/{number:09}.json", json.dumps(about, indent=4))
    write(tmp_path / "mine/00000_stats.json", json.dumps({"count": 20}, indent=4))
    write(tmp_path / "notes.csv", "\0 broken")
    target = tmp_path / "own.yaml"
    assert describe_command([str(tmp_path / "mine"), f"to={target}"]) == 0
    found = pairs_of(target, tiny)
    assert len(found) == 20
    assert all(text == shown for text, shown in found)


def test_columns_of_other_names_and_classes_are_seen(tmp_path, capsys):
    rows = {"img": [{"bytes": picture(number), "path": None} for number in range(NUM)], "label": [0, 1] * (NUM // 2)}
    classes = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    found = datasets.Dataset.from_dict(rows, features=classes)
    found.to_parquet(tmp_path / "a.parquet")
    found.save_to_disk(tmp_path / "saved")
    for number, name in enumerate(("a.parquet", "saved")):
        target = tmp_path / f"own{number}.yaml"
        assert describe_command([str(tmp_path / name), f"to={target}"]) == 0
        written = yaml.safe_load(target.read_text())
        assert (written["image"], written["short"]) == ("img", "label")


def test_a_description_that_cannot_be_indexed_is_not_kept(tmp_path, refusal):
    files(tmp_path / "images")
    rows = [f"{number // 2:03}.jpg,{caption(number)}" for number in range(NUM)]
    table = write(tmp_path / "t.csv", "\n".join(["image,caption", *rows]))
    assert "have the same key" in refusal(describe_command, [str(table), f"to={tmp_path / 'own.yaml'}"])
    write(tmp_path / "mine/a.jpg", picture(1))
    write(tmp_path / "mine/a.txt", "one pair only")
    assert "held_out" in refusal(describe_command, [str(tmp_path / "mine"), f"to={tmp_path / 'own.yaml'}"])
    assert not (tmp_path / "own.yaml").exists()
