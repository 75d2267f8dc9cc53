"""Layouts of pairs that people have, each made by its own tool."""

import csv
import json
import shutil
import subprocess

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset as wds

from tests.helpers.own_data import picture, write

NUM = 40


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
    return folder / "train"


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


def as_two_splits(folder):
    """Write two folders whose files have the same names, and a table beside each."""
    for split, first in (("test", 100), ("train", 0)):
        rows = ["file_name,text"]
        for number in range(NUM):
            write(folder / split / f"{number:03}.png", picture(first + number, "PNG"))
            rows.append(f"{number:03}.png,{caption(first + number)}")
        write(folder / f"{split}.csv", "\n".join(rows))


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
}
