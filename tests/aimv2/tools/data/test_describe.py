"""Ten layouts that people have, each made by its own tool, from the path to the first batch."""

import csv
import json
import re
import shutil
import subprocess
from dataclasses import replace

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset as wds
import yaml

from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import prepare
from aimv2.datasets.description import read_source
from aimv2.request.resolve import resolve
from aimv2.tools.data.describe import captions, describe_command, see
from tests.helpers.own_data import picture, write

NUM = 40


@pytest.fixture(autouse=True, scope="module")
def _no_bars():
    datasets.disable_progress_bars()


def caption(number):
    return f"a picture of number {number}"


def files(folder):
    for number in range(NUM):
        write(folder / f"{number:03}.jpg", picture(number))
        write(folder / f"{number:03}.txt", caption(number))
    return folder


def as_img2dataset(folder):
    """Write shards with the members of img2dataset's output format ``webdataset``."""
    folder.mkdir()
    for shard in range(2):
        with wds.TarWriter(str(folder / f"{shard:05}.tar")) as writer:
            for number in range(20 * shard, 20 * shard + 20):
                about = {"caption": caption(number), "url": "https://example.com/a.jpg", "key": f"{number:09}"}
                about |= {"status": "success", "error_message": None, "width": 12, "height": 8, "sha256": "0" * 64}
                members = {"jpg": picture(number), "txt": caption(number), "json": about}
                writer.write({"__key__": f"{number:09}", **members})
        pq.write_table(pa.table({"url": ["https://example.com"], "caption": ["a"]}), folder / f"{shard:05}.parquet")
        write(folder / f"{shard:05}_stats.json", "{}")
    return folder


def as_webdataset(folder):
    folder.mkdir()
    with wds.ShardWriter(str(folder / "%05d.tar"), maxcount=15, verbose=0) as writer:
        for number in range(NUM):
            writer.write({"__key__": f"{number:05}", "png": picture(number, "PNG"), "caption.txt": caption(number)})
    return folder


def as_plain_tar(folder):
    files(folder / "pictures")
    subprocess.run(["tar", "cf", folder / "pictures.tar", "-C", folder, "pictures"], check=True)
    shutil.rmtree(folder / "pictures")
    return folder / "pictures.tar"


def as_csv(folder):
    files(folder / "images")
    for path in (folder / "images").glob("*.txt"):
        path.unlink()
    with (folder / "captions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "split", "caption"])
        writer.writerows([f"{number:03}.jpg", "train", caption(number)] for number in range(NUM))
    return folder / "captions.csv"


def as_json_lines(folder):
    """Write a table with absolute paths, such as a program that gathers files writes."""
    files(folder / "deep/images")
    rows = [{"path": f"{folder}/deep/images/{number:03}.jpg", "text": caption(number)} for number in range(NUM)]
    return write(folder / "all.jsonl", "\n".join(map(json.dumps, rows)))


def dataset():
    columns = {"image": [{"bytes": picture(number), "path": None} for number in range(NUM)]}
    columns |= {"caption": [caption(number) for number in range(NUM)], "id": list(range(NUM))}
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())


def as_saved_dataset(folder):
    datasets.DatasetDict({"train": dataset(), "test": dataset().select(range(2))}).save_to_disk(folder)
    return folder


def as_hub(folder):
    (folder / "data").mkdir(parents=True)
    for number in range(2):
        dataset().shard(2, number, contiguous=True).to_parquet(folder / f"data/train-{number:05}-of-00002.parquet")
    dataset().select(range(2)).to_parquet(folder / "data/test-00000-of-00001.parquet")
    write(folder / "README.md", "# A data set")
    return folder


def as_img2dataset_parquet(folder):
    folder.mkdir()
    for shard in range(2):
        numbers = range(20 * shard, 20 * shard + 20)
        columns = {"url": ["https://example.com"] * 20, "key": [f"{number:09}" for number in numbers]}
        columns |= {"caption": list(map(caption, numbers)), "jpg": list(map(picture, numbers))}
        pq.write_table(pa.table(columns), folder / f"{shard:05}.parquet")
    return folder


def as_folders_by_class(folder):
    for number in range(NUM):
        write(folder / f"number {number % 4}/{number:03}.jpg", picture(number))
    return folder


def as_links(folder):
    files(folder / "disk")
    (folder / "farm").mkdir()
    for path in (folder / "disk").iterdir():
        (folder / "farm" / path.name).symlink_to(path)
    return folder / "farm"


LAYOUTS = {
    "img2dataset": (as_img2dataset, "txt"),
    "webdataset": (as_webdataset, "caption.txt"),
    "plain tar": (as_plain_tar, "txt"),
    "csv": (as_csv, "caption"),
    "json lines": (as_json_lines, "text"),
    "saved dataset": (as_saved_dataset, "caption"),
    "hub": (as_hub, "caption"),
    "img2dataset parquet": (as_img2dataset_parquet, "caption"),
    "folders by class": (as_folders_by_class, "folder"),
    "side files": (files, "txt"),
    "links": (as_links, "txt"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
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
    ],
)
def test_captions_are_chosen_by_names_and_lengths(texts, expected):
    assert captions(texts) == expected


def test_the_description_has_comments_on_what_was_guessed(tmp_path, capsys):
    as_hub(tmp_path / "mine")
    target = tmp_path / "own.yaml"
    assert describe_command([str(tmp_path / "mine"), f"to={target}", "index=false"]) == 0
    text = target.read_text()
    assert text in capsys.readouterr().out
    assert yaml.safe_load(text) == {"parquet": "mine/data/train-*.parquet", "short": "caption", "licence": ""}
    assert "# The files train-* of test, train." in text
    assert "short: caption  # such as 'a picture of number 0'" in text
    assert not (tmp_path / "own.index").exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("none", "none does not exist"),
        ("empty", r"empty has no images \(jpg, jpeg, png, webp\), no .tar or .parquet files, and is no saved dataset"),
        ("a.csv", r"a\.csv has no column with paths of images that exist"),
        ("a.doc", r"a\.doc is no folder, \.tar file or table"),
        ("broken.tar", r"broken\.tar cannot be read"),
        ("silent", "no field with texts is seen"),
    ],
)
def test_what_is_not_known_is_one_sentence(tmp_path, name, sentence, refusal):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "a.csv", "image,caption\nnone.jpg,one\n")
    write(tmp_path / "a.doc", "")
    write(tmp_path / "broken.tar", "no archive")
    write(tmp_path / "silent/a.jpg", picture(0))
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


def test_a_circle_of_links_ends(tmp_path):
    files(tmp_path / "mine")
    (tmp_path / "mine/circle").symlink_to(tmp_path / "mine")
    assert see(tmp_path / "mine").place == {"folder": str(tmp_path / "mine")}
