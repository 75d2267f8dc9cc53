import errno
import os
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
import yaml

from aimv2.base.errors import RunFailedError
from aimv2.config.program import replaced
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import prepare
from aimv2.data.reading import Reader
from aimv2.datasets.description import read_source
from aimv2.datasets.open import prepare_location
from aimv2.datasets.remote import Patience
from tests.helpers.loading import whole_batches
from tests.helpers.marks import exhaustive
from tests.helpers.own_data import own_source, pictured_source, write
from tests.helpers.shards import write_pictured_shards
from tests.helpers.web_server import serving

BAD = {1: "image", 10: "caption", 17: "empty"}


@pytest.fixture
def own(tmp_path, tiny):
    """Return a function that makes a run on pictures with some bad ones, and its data."""

    def make(bad=BAD, **changes):
        path = pictured_source(tmp_path / "pictures", bad=bad)
        config = replace(tiny, data=replace(tiny.data, sources=(str(path),), **changes))
        return config, prepare(config.data, config.model.vocab_size)

    return make


def read(config, data, places):
    return Reader(config, data.train).read(np.array(places))


def same(one, other):
    pictures = all(np.array_equal(a, b) for a, b in zip(one.pictures, other.pictures, strict=True))
    return pictures and one.captions == other.captions and one.sample_id_B.tolist() == other.sample_id_B.tolist()


def test_bad_samples_are_replaced_and_reported(own):
    config, data = own()
    epoch = read(config, data, range(32))
    assert sorted((bad.key, bad.reason) for bad in epoch.bad if bad.place < 32)[:3] == [
        ("01.png", "undecodable image"),
        ("10.png", "missing caption"),
        ("17.png", "empty caption"),
    ]
    assert all(picture.shape == (16, 16, 3) for picture in epoch.pictures)
    shown = {int(caption.rpartition(" ")[2]) for caption in epoch.captions}
    assert not shown & BAD.keys()
    usable = {number for number in range(40) if number % 5 != 4} - BAD.keys()
    assert shown == usable, "every usable pair is shown in its epoch"


def test_a_replacement_is_a_function_of_its_place(own):
    config, data = own()
    whole = read(config, data, range(64))
    for places in ([bad.place for bad in whole.bad], range(5, 40), [63]):
        part = read(config, data, places)
        for index, place in enumerate(places):
            assert part.captions[index] == whole.captions[place]
            np.testing.assert_array_equal(part.pictures[index], whole.pictures[place])
    assert not same(whole, read(replace(config, seed=1), data, range(64)))


def test_shuffled_captions_replace_a_pair_whose_caption_is_bad(own):
    config, data = own(captions="shuffled")
    samples = read(config, data, range(32))
    assert {bad.key for bad in samples.bad} >= {"01.png", "10.png", "17.png"}
    assert all(samples.captions)


def test_a_source_without_a_usable_sample_stops_the_run(own):
    config, data = own()
    broken = replace(config, data=replace(config.data, max_pixels=4))
    message = r"100 samples of pictures in a row cannot be used; .* image over the pixel limit"
    with pytest.raises(RunFailedError, match=message) as raised:
        read(broken, data, range(2))
    assert raised.value.cause == "data"


@pytest.mark.parametrize(
    ("kinds", "counts"), [(("short",), {0}), (("dense",), {40}), (("short", "dense"), set(range(1, 40)))]
)
def test_dense_captions_are_counted_where_a_source_has_them(tiny, tmp_path, kinds, counts):
    config = replaced(tiny, {"data.sources": (own_source(tmp_path, kinds=kinds),), "data.dense_fraction": 0.5})
    samples = Reader(config, prepare(config.data, config.model.vocab_size).train).read(np.arange(40))
    assert int(samples.is_dense_B.sum()) in counts
    assert [caption.startswith("long") for caption in samples.captions] == samples.is_dense_B.tolist()


@pytest.mark.filterwarnings("ignore:This DataLoader will create 8 worker processes")
@pytest.mark.parametrize("ranks", [exhaustive(1), 2, exhaustive(4)])
def test_the_samples_are_the_same_for_any_workers_ranks_and_resumes(own, ranks):
    """Three attempts with other numbers of loader workers, and any number of ranks, read what one process reads."""
    config, data = own()
    config = replace(config, budget=replace(config.budget, samples=96), ranks=ranks)
    whole = [TrainBatches(config, data.train, data.tokenizer)[step] for step in range(12)]
    for rank in range(ranks):
        parts = []
        for first, last, workers in ((0, 3, 0), (3, 7, 2), (7, 12, 8)):
            now = replace(config, loader=replace(config.loader, num_workers=workers))
            batches = TrainBatches(now, data.train, data.tokenizer, rank if ranks > 1 else None)
            parts += islice(whole_batches(batches, first), last - first)
        size = 8 // ranks
        own_part = slice(rank * size, (rank + 1) * size)
        for part, batch in zip(parts, whole, strict=True):
            assert torch.equal(part.image, batch.image[own_part])
            assert torch.equal(part.token_BT, batch.token_BT[own_part])
            assert torch.equal(part.prefix_len_B, batch.prefix_len_B[own_part])
    assert sum(len(batch.bad) for batch in whole) >= 6, "with bad samples in every epoch"


def test_repeated_reads_are_counted(own, monkeypatch):
    config, data = own(bad={})
    records = data.train.parts["pictures"]._records
    real, refused = os.open, []

    def sometimes(path, *arguments, **keys):
        if str(path).endswith(".png") and path not in refused and len(refused) < 3:
            refused.append(path)
            raise OSError(errno.EIO, "Input/output error")
        return real(path, *arguments, **keys)

    records._patience = Patience(lambda seconds: None)
    monkeypatch.setattr("os.open", sometimes)
    samples = read(config, data, range(16))
    assert (samples.num_retries, samples.bad) == (3, [])


NODES, SHARDS = 4, 24


@pytest.fixture
def shared(tmp_path, tiny):
    """Yield a server of shards of eight pairs, and a function that makes a run on them over the web, or on files."""
    folder = tmp_path / "shards"
    pattern = write_pictured_shards(folder, SHARDS, 8)
    with serving(folder) as server:

        def make(start, cache="cache", **changes):
            values = {"shards": f"{start}/{pattern}", "short": "txt", "held_out": {"fraction": 0.1}}
            path = write(tmp_path / start.partition(":")[0] / "own.yaml", yaml.safe_dump(values))
            prepare_location(read_source(path))
            cached = str(tmp_path / cache)
            own = {"data.sources": (str(path),), "data.cache_dir": cached, "budget.samples": 400}
            config = replaced(tiny, own | changes)
            data = prepare(config.data, config.model.vocab_size)
            data.train.parts["own"].block_rows = 50
            return config, data

        yield server, make


@pytest.mark.parametrize(
    ("captions", "nodes"),
    [("shuffled", NODES), exhaustive("own", 1), exhaustive("own", NODES), exhaustive("shuffled", 1)],
)
def test_pairs_of_the_web_are_those_of_files(shared, nodes, captions):
    server, make = shared
    changes = {"data.canonical_nodes": nodes, "data.captions": captions}
    places = [range(start, start + 16) for start in range(0, 400, 16)]
    runs = (make(str(server.folder), **changes), make(server.url, **changes))
    found = [[read(*run, place) for place in places] for run in runs]
    assert all(same(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.exhaustive
def test_nodes_fetch_the_shards_of_their_own_part_once(shared):
    """Four nodes with a cache each; the shards at the ends of their parts are fetched twice."""
    server, make = shared
    config, data = make(server.url, **{"data.canonical_nodes": NODES})
    own = []
    for node in range(NODES):
        config, data = make(server.url, f"cache {node}", **{"data.canonical_nodes": NODES})
        server.sent.clear()
        reader = Reader(config, data.train)
        for step in range(len(data.train) // 16):
            images = np.arange(16).reshape(NODES, -1)[node]
            reader.read(reader.order.places(16 * step, 16, images))
        own.append({path for path, sent in server.sent.items() if sent > 2000})
        sizes = [(server.folder / path.lstrip("/")).stat().st_size for path in own[-1]]
        assert sum(server.sent[path] for path in own[-1]) == sum(sizes), "each is fetched once"
    assert set.union(*own) == {f"/{shard:02}.tar" for shard in range(SHARDS)}
    assert sum(map(len, own)) <= SHARDS + NODES - 1


def test_captions_are_members_that_are_read_alone(shared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server, make = shared
    config, data = make(server.url)
    server.requests.clear()
    again = prepare(replace(config.data, cache_dir="another cache"), config.model.vocab_size)
    assert len(server.requests) > 150
    assert max(length for _, _, length in server.requests) < 4096
    assert data.tokenizer.fingerprint == again.tokenizer.fingerprint
    for kind in ("short", "dense"):
        assert data.train.texts(np.arange(9, 30), kind) == [data.train.caption(row, kind).text for row in range(9, 30)]
