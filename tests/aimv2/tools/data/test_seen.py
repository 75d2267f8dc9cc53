"""What is seen in folders, shards and tables."""

import shutil
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset as wds

from aimv2.base.errors import UsageError
from aimv2.tools.data.seen import see
from tests.helpers.layouts import dataset, files
from tests.helpers.own_data import picture, write


def test_folders_of_splits_are_not_mixed(tmp_path):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            write(tmp_path / "mine" / split / name / f"{split}.jpg", picture(1))
    seen = see(tmp_path / "mine")
    assert seen.place == {"folder": str(tmp_path / "mine/train")}
    assert seen.texts == {"folder": ["cat", "dog"]}
    assert seen.comments[0] == "The split train; left out: val."
    for split in ("train", "test"):
        (tmp_path / "hub" / split).mkdir(parents=True)
        dataset().to_parquet(tmp_path / "hub" / split / "0000.parquet")
    assert see(tmp_path / "hub").place == {"parquet": str(tmp_path / "hub/train/0000.parquet")}
    for split in ("train-0", "val-0"):
        with wds.TarWriter(str(tmp_path / f"{split}.tar")) as writer:
            writer.write({"__key__": "1", "jpg": picture(1), "txt": "one"})
    (tmp_path / "tars").mkdir()
    for path in tmp_path.glob("*.tar"):
        path.rename(tmp_path / "tars" / path.name)
    assert see(tmp_path / "tars").place == {"shards": str(tmp_path / "tars/train-0.tar")}
    shutil.rmtree(tmp_path / "hub/train")
    (tmp_path / "hub/test").rename(tmp_path / "hub/dev")
    assert see(tmp_path / "hub").place == {"parquet": str(tmp_path / "hub/dev/0000.parquet")}, "one split is no choice"


def test_a_class_of_trains_is_no_split(tmp_path):
    for name in ("bus", "train", "tram"):
        write(tmp_path / "mine" / name / "test of a dev camera.jpg", picture(1))
    seen = see(tmp_path / "mine")
    assert seen.place == {"folder": str(tmp_path / "mine")}
    assert seen.texts == {"folder": ["bus", "train", "tram"]}


def test_classes_are_those_of_all_folders(tmp_path):
    for number in range(2100):
        write(tmp_path / f"mine/cat/{number:04}.jpg", b"image")
    write(tmp_path / "mine/dog/1.jpg", b"image")
    assert see(tmp_path / "mine").texts == {"folder": ["cat", "dog"]}


def test_captions_may_come_late_in_an_archive_and_in_a_table(tmp_path):
    files(tmp_path / "mine")
    for number in range(2050):
        write(tmp_path / f"mine/{number:04}.jpg", b"image")
    names = sorted(path.name for path in (tmp_path / "mine").glob("*.jpg"))
    names += sorted(path.name for path in (tmp_path / "mine").glob("*.txt"))
    subprocess.run(["tar", "cf", tmp_path / "a.tar", "-C", tmp_path / "mine", *names], check=True)
    assert list(see(tmp_path / "a.tar").texts) == ["txt"]
    columns = {"jpg": [picture(1)] * 60, "caption": [None] * 30 + ["a dog"] * 30}
    pq.write_table(
        pa.table(columns, pa.schema({"jpg": pa.binary(), "caption": pa.large_string()})), tmp_path / "a.parquet"
    )
    assert see(tmp_path / "a.parquet").texts == {"caption": ["a dog"] * 20}


def test_one_link_does_not_open_what_it_leads_to(tmp_path):
    files(tmp_path / "mine")
    (tmp_path / "mine/999.jpg").symlink_to(write(tmp_path / "secret.jpg", picture(1)))
    seen = see(tmp_path / "mine")
    assert "follow_links" not in seen.place
    assert seen.comments == ["1 links lead out of the folder, and are left out; follow_links: true reads them."]


def test_a_circle_of_links_ends(tmp_path):
    files(tmp_path / "mine")
    (tmp_path / "mine/circle").symlink_to(tmp_path / "mine")
    assert see(tmp_path / "mine").place == {"folder": str(tmp_path / "mine")}


def test_absolute_paths_of_all_rows_decide_the_folder(tmp_path):
    rows = ["path,caption"]
    for number in range(50):
        write(tmp_path / f"a/b/{number}.jpg", picture(1))
        rows.append(f"{tmp_path}/a/b/{number}.jpg,one")
    rows.append(f"{write(tmp_path / 'a/c/last.jpg', picture(1))},one")
    table = write(tmp_path / "t.csv", "\n".join(rows))
    assert see(table).place == {"folder": str(tmp_path / "a"), "table": str(table), "image": "path"}


def test_images_in_two_folders_alike_are_not_guessed(tmp_path):
    for folder in ("one", "two"):
        write(tmp_path / folder / "1.jpg", picture(1))
    table = write(tmp_path / "t.csv", "image,caption\n1.jpg,one\n")
    with pytest.raises(UsageError, match=r"the images of .*t\.csv are in several folders: .*one, .*two; write"):
        see(table)
    table = table.rename(tmp_path / "two.csv")
    assert see(table).place == {"folder": str(tmp_path / "two"), "table": str(table)}
