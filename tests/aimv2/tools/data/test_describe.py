"""Ten layouts that people have, from the path to the first batch, and what must not be mixed."""

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
from hypothesis import example, given
from hypothesis import strategies as st

from aimv2.base.errors import UsageError
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import prepare
from aimv2.datasets.description import read_source
from aimv2.datasets.open import open_source
from aimv2.request.resolve import resolve
from aimv2.tools.data.describe import captions, describe_command, described, find_place, first_texts
from tests.helpers.layouts import LAYOUTS, NUM, as_hub, as_two_splits, caption, dataset, files
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
            same = range(number, NUM, 4) if layout == "folders by class" else [number]
            expected = [picture(each, "PNG" if layout == "webdataset" else "JPEG") for each in same]
            assert pairs.picture(row) in expected


def test_the_description_has_comments_on_what_was_guessed(tmp_path, capsys):
    as_hub(tmp_path / "mine")
    target = tmp_path / "own.yaml"
    assert describe_command([str(tmp_path / "mine"), f"to={target}"]) == 0
    text = target.read_text()
    assert text in capsys.readouterr().out
    assert yaml.safe_load(text) == {"parquet": "mine/data/train-*.parquet", "short": "caption", "licence": ""}
    assert "# The split train; left out: test." in text
    assert "# short: caption, such as 'a picture of number 0'" in text


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("none", "none does not exist"),
        ("empty", r"empty has no images \(jpg, jpeg, png, webp\), no .tar files, no Parquet files with images"),
        ("a.csv", r"a\.csv has no column with paths of images that exist"),
        ("a.doc", r"a\.doc is no folder, \.tar file or table"),
        ("broken.tar", r"broken\.tar is not a tar archive"),
        (
            "silent",
            "no captions are seen: they are in files beside the images, such as a.txt, or in a column of a table",
        ),
        ("a[1]", "which are signs of patterns; rename it"),
        ("pointer.parquet", r"pointer\.parquet cannot be read"),
        ("twice.csv", "have the same key"),
        ("single", "held_out"),
    ],
)
def test_what_cannot_be_described_or_indexed_is_one_sentence_and_leaves_nothing(tmp_path, name, sentence, refusal):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "a.csv", "image,caption\nnone.jpg,one\n")
    write(tmp_path / "a.doc", "")
    write(tmp_path / "broken.tar", "no archive")
    write(tmp_path / "silent/a.jpg", picture(0))
    write(tmp_path / "pointer.parquet", "version https://git-lfs.github.com/spec/v1")
    write(tmp_path / "twice.csv", "image,caption\nsilent/a.jpg,one\nsilent/a.jpg,two\n")
    write(tmp_path / "single/a.jpg", picture(1))
    write(tmp_path / "single/a.txt", "one pair only")
    before = sorted(tmp_path.iterdir())
    found = refusal(describe_command, [str(tmp_path / name), f"to={tmp_path / 'mine.yaml'}"])
    assert re.search(sentence, found)
    assert sorted(tmp_path.iterdir()) == before


def test_no_index_of_others_is_deleted(tmp_path, refusal):
    """Neither a folder of that name nor the index of an earlier description."""
    files(tmp_path / "pics")
    target = tmp_path / "pics.yaml"
    assert describe_command([str(tmp_path / "pics"), f"to={target}"]) == 0
    target.unlink()
    before = sorted((tmp_path / "pics.index").rglob("*"))
    write(tmp_path / "silent/a.jpg", picture(0))
    refusal(describe_command, [str(tmp_path / "silent"), f"to={target}"])
    assert sorted((tmp_path / "pics.index").rglob("*")) == before
    kept = write(tmp_path / "mine.index/a.txt", "mine")
    assert "exists and is no index" in refusal(
        describe_command, [str(tmp_path / "pics"), f"to={tmp_path / 'mine.yaml'}"]
    )
    assert kept.read_text() == "mine"


def test_shards_that_were_read_are_not_read_again(tmp_path, capsys):
    for number in range(3):
        with wds.TarWriter(str(write(tmp_path / f"tars/{number}.tar", ""))) as writer:
            for sample in range(10):
                writer.write({"__key__": f"{number}-{sample}", "jpg": picture(sample), "txt": f"{number} {sample}"})
    for _ in range(2):
        assert describe_command([str(tmp_path / "tars"), f"to={tmp_path / 'own.yaml'}"]) == 0
        printed = capsys.readouterr().out
        (tmp_path / "own.yaml").unlink()
    assert "have not changed: 3 shards" in printed


@pytest.mark.parametrize("place", ["mine/metadata.csv", "mine.csv"])
def test_a_table_in_or_beside_a_folder_names_its_images(tmp_path, place):
    for number in range(5):
        write(tmp_path / f"mine/{number}.jpg", picture(number))
    table = write(tmp_path / place, "\n".join(["file_name,text", *(f"{number}.jpg,a dog" for number in range(5))]))
    assert find_place(tmp_path / "mine")[0] == {
        "folder": str(tmp_path / "mine"), "table": str(table), "image": "file_name",
    }  # fmt: skip


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
    sides = open_source(str(target), replace(tiny.data, sources=(str(target),)))
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


def seen(path):
    """Return the place of data and the texts of their fields."""
    place, _ = find_place(path)
    return place, first_texts(place, path.parent / "seen.index")


def test_folders_of_splits_are_not_mixed(tmp_path):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            write(tmp_path / "mine" / split / name / f"{split}.jpg", picture(1))
    assert find_place(tmp_path / "mine")[1] == ["The split train; left out: val."]
    assert seen(tmp_path / "mine") == ({"folder": str(tmp_path / "mine/train")}, {"folder": ["cat", "dog"]})
    for split in ("train", "test"):
        (tmp_path / "hub" / split).mkdir(parents=True)
        dataset().to_parquet(tmp_path / "hub" / split / "0000.parquet")
    assert find_place(tmp_path / "hub")[0] == {"parquet": str(tmp_path / "hub/train/0000.parquet")}
    (tmp_path / "tars").mkdir()
    for split in ("train-0", "val-0"):
        with wds.TarWriter(str(tmp_path / "tars" / f"{split}.tar")) as writer:
            writer.write({"__key__": "1", "jpg": picture(1), "txt": "one"})
    assert find_place(tmp_path / "tars")[0] == {"shards": str(tmp_path / "tars/train-0.tar")}
    shutil.rmtree(tmp_path / "hub/train")
    (tmp_path / "hub/test").rename(tmp_path / "hub/dev")
    assert find_place(tmp_path / "hub")[0] == {"parquet": str(tmp_path / "hub/dev/0000.parquet")}, "one is no choice"


def test_classes_are_those_of_all_folders_and_a_class_of_trains_is_no_split(tmp_path):
    for name in ("bus", "train", "tram"):
        write(tmp_path / "mine" / name / "test of a dev camera.jpg", picture(1))
    for number in range(80):
        write(tmp_path / f"mine/bus/{number:04}.jpg", b"image")
    assert seen(tmp_path / "mine") == ({"folder": str(tmp_path / "mine")}, {"folder": ["bus", "train", "tram"]})


def test_captions_may_come_late_in_an_archive_and_in_a_table(tmp_path):
    files(tmp_path / "mine")
    names = sorted(path.name for path in (tmp_path / "mine").glob("*.jpg"))
    names += sorted(path.name for path in (tmp_path / "mine").glob("*.txt"))
    subprocess.run(["tar", "cf", tmp_path / "a.tar", "-C", tmp_path / "mine", *names], check=True)
    assert list(seen(tmp_path / "a.tar")[1]) == ["txt"]
    columns = {"jpg": [picture(1)] * 600, "caption": [None] * 500 + ["a dog"] * 100}
    pq.write_table(
        pa.table(columns, pa.schema({"jpg": pa.binary(), "caption": pa.large_string()})), tmp_path / "a.parquet"
    )
    assert set(seen(tmp_path / "a.parquet")[1]["caption"]) == {"a dog"}


def test_links_do_not_open_what_they_lead_to_and_circles_end(tmp_path, capsys):
    files(tmp_path / "mine")
    (tmp_path / "mine/999.jpg").symlink_to(write(tmp_path / "secret.jpg", picture(1)))
    (tmp_path / "mine/circle").symlink_to(tmp_path / "mine")
    assert describe_command([str(tmp_path / "mine"), f"to={tmp_path / 'own.yaml'}"]) == 0
    assert "2 links were not followed" in capsys.readouterr().out


def test_absolute_paths_of_all_rows_decide_the_folder(tmp_path):
    rows = ["path,caption"]
    for number in range(50):
        write(tmp_path / f"a/b/{number}.jpg", picture(1))
        rows.append(f"{tmp_path}/a/b/{number}.jpg,one")
    rows.append(f"{write(tmp_path / 'a/c/last.jpg', picture(1))},one")
    table = write(tmp_path / "t.csv", "\n".join(rows))
    assert find_place(table)[0] == {"folder": str(tmp_path / "a"), "table": str(table), "image": "path"}


def test_images_in_two_folders_alike_are_not_guessed(tmp_path):
    for folder in ("one", "two"):
        write(tmp_path / folder / "1.jpg", picture(1))
    table = write(tmp_path / "t.csv", "image,caption\n1.jpg,one\n")
    with pytest.raises(UsageError, match=r"the images of .*t\.csv are in several folders: .*one, .*two; write"):
        find_place(table)
    table = table.rename(tmp_path / "two.csv")
    assert find_place(table)[0] == {"folder": str(tmp_path / "two"), "table": str(table)}


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
        ({"folder": ["cat", "dog"]}, {"short": "folder"}),
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
    written = described(place, {"caption": ["a dog", text], name: ["other"]}, [comment], target)
    found = yaml.safe_load(written)
    assert set(found) - {"dense"} == {"folder", "table", "short", "licence"}
    assert (target.parent / found["folder"]).resolve() == (target.parent / folder).resolve()
    assert found["short"] in ("caption", name)
