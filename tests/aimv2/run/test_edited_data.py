"""Data that somebody edits before, during or after a run: the edit is refused, or the run has another name."""

import io
import json
import tarfile
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from aimv2.base.errors import UsageError
from aimv2.base.interrupt import Interrupts
from aimv2.data.provenance import check_finished
from aimv2.datasets import open as opening
from aimv2.datasets.description import read_source
from aimv2.datasets.labelled import labelled_sets
from aimv2.datasets.open import prepare_location
from aimv2.definitions.metrics import set_names
from aimv2.request.resolve import resolve
from aimv2.run.execute import execute, prepared_pairs
from aimv2.runs.record import RunFolder
from tests.helpers.labelled_digits import indexed, labelled_digits
from tests.helpers.marks import everyday
from tests.helpers.own_data import settle, write

NUM = 20
EDITED = 7  # the sample
KINDS = {
    "txt": {"folder": "pictures", "short": "txt"},
    "json": {"folder": "pictures", "short": "json.caption"},
    "csv": {"folder": "pictures", "table": "table.csv", "short": "caption"},
    "parquet": {"folder": "pictures", "table": "table.parquet", "short": "caption"},
    "image": {"folder": "pictures", "short": "txt"},
    "side": {"folder": "pictures", "short": "txt", "held_out": {"field": "json.side", "values": ["test"]}},
    "shard": {"shards": "one.tar", "short": "txt"},
}


def image(number, is_edited):
    """Return an image file; what follows its end does not matter to a reader."""
    stream = io.BytesIO()
    Image.new("RGB", (20, 16), (0, 200, 0) if is_edited else (200, 10 * number, 0)).save(stream, "PNG")
    return stream.getvalue().ljust(400, b"\0")


def files_of(kind, *, is_edited=False):
    """Return the content of all files by name; an edited sample has the same length."""
    edited = EDITED if is_edited else None
    captions = [f"picture {number} in {'tan' if number == edited else 'red'}" for number in range(NUM)]
    images = [image(number, kind == "image" and number == edited) for number in range(NUM)]
    files = {f"pictures/{number:02}.png": content for number, content in enumerate(images)}
    if kind in ("txt", "image", "side"):
        texts = captions if kind == "txt" else ["the same caption"] * NUM
        files |= {f"pictures/{number:02}.txt": text.encode() for number, text in enumerate(texts)}
    if kind in ("txt", "image"):
        return files
    if kind in ("json", "side"):
        sides = ["test" if number % 5 == 4 else "rest" for number in range(NUM)]
        sides[EDITED] = "test" if is_edited else "rest"
        texts = [
            json.dumps({"caption": caption} if kind == "json" else {"side": side})
            for caption, side in zip(captions, sides, strict=True)
        ]
        return files | {f"pictures/{number:02}.json": text.encode() for number, text in enumerate(texts)}
    if kind == "csv":
        rows = [f"{number:02}.png,{caption}" for number, caption in enumerate(captions)]
        return files | {"table.csv": "\n".join(["image,caption", *rows]).encode()}
    stream = io.BytesIO()
    if kind == "parquet":
        table = pa.table({"image": [f"{number:02}.png" for number in range(NUM)], "caption": captions})
        pq.write_table(table, stream, compression="none", use_dictionary=False, write_statistics=False)
        return files | {"table.parquet": stream.getvalue()}
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for number, caption in enumerate(captions):
            for name, content in ((f"{number:02}.png", images[number]), (f"{number:02}.txt", caption.encode())):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return {"one.tar": stream.getvalue()}


@pytest.fixture
def planned(tiny, tmp_path):
    """A function that writes and indexes data of a kind, and returns the description and the run."""

    def plan(kind):
        for name, content in files_of(kind).items():
            write(tmp_path / name, content)
        settle(tmp_path)
        path = write(tmp_path / "mine.yaml", yaml.safe_dump(KINDS[kind]))
        prepare_location(read_source(path))
        data = replace(tiny.data, sources=(str(path),), dense_fraction=0.0)
        config = resolve(replace(tiny, data=data, budget=replace(tiny.budget, samples=32)))
        return path, config, RunFolder(tmp_path / "runs", config.name)

    return plan


@pytest.mark.parametrize("is_indexed", everyday([False], [False, True]), ids=["", "indexed-again"])
@pytest.mark.parametrize("moment", ["before", "during", "after"])
@pytest.mark.parametrize("is_in_place", [True, False], ids=["in-place", "replaced"])
@pytest.mark.parametrize("kind", everyday(["txt", "parquet", "shard"], KINDS))
def test_an_edit_is_refused_or_gives_another_name(planned, tmp_path, kind, is_in_place, moment, is_indexed):
    path, config, run = planned(kind)
    if moment == "during":
        stopped = Interrupts()
        stopped.also_when(lambda: True)
        with pytest.raises(KeyboardInterrupt):
            execute(run.acquire(config), config, interrupts=stopped)
    if moment == "after":
        assert execute(run.acquire(config), config) is None

    before, now = files_of(kind), files_of(kind, is_edited=True)
    (name,) = [name for name in now if now[name] != before[name]]
    assert len(now[name]) == len(before[name])
    if is_in_place:
        write(tmp_path / name, now[name])
    else:
        write(tmp_path / "new", now[name]).replace(tmp_path / name)
    for cache in (opening._check, prepared_pairs):
        cache.cache_clear()  # as in a new process
    if is_indexed:
        prepare_location(read_source(path))
        assert resolve(config).name != run.name
    else:
        with pytest.raises(UsageError, match=f"{name.rpartition('/')[2]}.* run python -m aimv2 data index {path}"):
            resolve(config)
    if moment == "after":
        if not is_indexed:  # nor does its result count as one on these data
            with pytest.raises(UsageError, match=f"{name.rpartition('/')[2]}.* run python -m aimv2 data index {path}"):
                check_finished([config])
        run = RunFolder(tmp_path / "again", run.name)
    failure = execute(run.acquire(config), config)
    assert failure is not None
    assert failure.cause == "data"
    assert not run.is_done
    expected = "the data is not that of this run: " if is_indexed else f"run python -m aimv2 data index {path}"
    assert expected in failure.message
    assert is_indexed or name.rpartition("/")[2] in failure.message


def test_a_labelled_set_that_is_indexed_again_while_a_run_trains_gives_no_result(tiny, tmp_path):
    path = labelled_digits(tmp_path / "digits")
    config = resolve(replace(tiny, evaluation=replace(tiny.evaluation, sets=(str(path),))))
    run = RunFolder(tmp_path / "runs", config.name)
    (before,) = labelled_sets(config, set_names(config))

    def edited(*data):
        image = next((tmp_path / "digits/train/3").iterdir())
        image.rename(tmp_path / "digits/train/5" / image.name)
        indexed(path)
        (now,) = labelled_sets(config, set_names(config))
        assert now is not before, "it is read again"
        return {}

    failure = execute(run.acquire(config), config, evaluate=edited)
    assert failure is not None
    assert failure.cause == "data"
    assert "the data is not that of this run, because it was indexed again" in failure.message
    assert not run.is_done
