import subprocess
import sys
from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pytest
import torch

from aimv2.base.errors import RunFailedError
from aimv2.config.prefix import PrefixDistribution
from aimv2.config.program import replaced
from aimv2.data.batches.batch import of_step
from aimv2.data.batches.training import TrainBatches, loaded, loader
from aimv2.data.pairs import Joined, Selected, usable_captions
from aimv2.data.prepare import order_of, prepare
from aimv2.data.transforms import crop_and_resize
from aimv2.definitions.objectives import objective
from aimv2.memory.setup import setup_of
from aimv2.objectives.build import build, implementation_of
from aimv2.training.engine import Engine
from tests.helpers.loading import whole_batches
from tests.helpers.marks import everyday
from tests.helpers.native import AREAS, at_native
from tests.helpers.own_data import pictured_source


def batches(config, pairs):
    return TrainBatches(config, pairs.train, pairs.tokenizer)


def loader_of(config, pairs):
    return whole_batches(batches(config, pairs))


def assert_equal(one, other, *names):
    for name in names:
        assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.fixture
def longer(tiny, with_samples):
    return with_samples(tiny, 80)


def test_prefix_distribution_changes_only_the_prefix_lengths(longer, pairs):
    uniform = batches(longer, pairs)[3]
    fixed = batches(replace(longer, prefix=PrefixDistribution(law="fixed", fraction=0.5)), pairs)[3]
    assert set(fixed.prefix_len_B.tolist()) == {8}
    assert_equal(uniform, fixed, "image", "token_BT", "supervised_N")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_prefixes_of_a_curriculum_follow_the_step_in_any_process(longer, pairs, plugged, num_workers):
    """Oracle: the only length that has a probability at each step. Processes of the loader have the plug-in too."""
    plugged(
        "import numpy as np\nfrom aimv2.extend import prefix_distribution\n@prefix_distribution\n"
        "def grow(num_patches, progress):\n"
        "    return (np.arange(1, num_patches) == 1 + round(10 * progress)).astype(float)\n"
    )
    config = replace(longer, prefix=PrefixDistribution(law="grow"))
    steps = loader(batches(config, pairs), micro_batch=8, num_workers=num_workers)
    assert [set(batch.prefix_len_B.tolist()) for (batch,) in steps] == [{1 + step} for step in range(10)]
    assert set(batches(config, pairs)[7].prefix_len_B.tolist()) == {8}, "a resumed run reads what it would have read"


@pytest.mark.parametrize(("fraction", "kind"), [(0.0, "short"), (1.0, "dense")])
def test_dense_fraction_selects_the_caption(longer, pairs, fraction, kind):
    config = replace(longer, data=replace(longer.data, dense_fraction=fraction))
    allowed = all_tokens(pairs, kind)
    assert all(tuple(row) in allowed for row in batches(config, pairs)[0].token_BT.tolist())


def all_tokens(pairs, kind, rows=None):
    rows = np.arange(len(pairs.train)) if rows is None else rows
    token_NT = pairs.tokenizer.encode(usable_captions(pairs.train, rows, kind), 12)
    return {tuple(row): number for number, row in enumerate(token_NT.tolist())}


def test_batch_counts_its_tokens_and_scored_patches(longer, pairs):
    batch = batches(replace(longer, prefix=PrefixDistribution(full_attention=0.5)), pairs)[0]
    ends = [row.index(1) + 1 for row in batch.token_BT.tolist()]
    assert batch.text_len_B.tolist() == ends
    assert batch.num_scored == sum(16 - length for length in batch.prefix_len_B.tolist())
    assert 16 in batch.prefix_len_B


def test_source_with_weight_0_is_known_to_the_tokenizer_but_never_shown(longer, pairs):
    config = replace(longer, data=replace(longer.data, weights=(0, 1), dense_fraction=1))
    emoji, icons = (set(all_tokens(pairs, "dense", rows)) for rows in pairs.train.rows.values())
    shown = {tuple(row) for batch in loader_of(config, pairs) for row in batch.token_BT.tolist()}
    assert shown <= icons
    assert not shown <= emoji


@pytest.fixture
def few(pairs):
    """Forty training pairs, twenty of each source, with different dense captions: 5 batches of 8 per epoch."""
    parts, seen = {}, set()
    for source, rows in pairs.train.rows.items():
        chosen = []
        token_NT = pairs.tokenizer.encode(usable_captions(pairs.train, rows, "dense"), 12)
        for row, tokens in zip(rows, token_NT, strict=True):
            if len(chosen) < 20 and tuple(tokens) not in seen:
                seen.add(tuple(tokens))
                chosen.append(row)
        parts[source] = Selected(pairs.train, np.array(chosen))
    return pairs._replace(train=Joined(parts))


def shown_captions(config, pairs):
    """Return the row whose dense caption each sample shows, by epoch: int64 [epochs, 40]."""
    row_of = all_tokens(pairs, "dense")
    shown = [row_of[tuple(row)] for batch in loader_of(config, pairs) for row in batch.token_BT.tolist()]
    return np.array(shown).reshape(-1, 40)


def test_shuffled_captions_are_a_new_permutation_every_epoch(longer, few, with_samples):
    config = with_samples(longer, 160)
    own = replace(config, data=replace(config.data, dense_fraction=1))
    shuffled = replace(own, data=replace(own.data, captions="shuffled"))
    image_of, caption_of = shown_captions(own, few), shown_captions(shuffled, few)
    assert all(sorted(epoch) == list(range(40)) for epoch in caption_of.tolist())
    assert (image_of == caption_of).sum() <= 10, "one per epoch is expected, and there are four epochs"
    pairings = {tuple(caption[np.argsort(image)]) for image, caption in zip(image_of, caption_of, strict=True)}
    assert len(pairings) == 4, "every epoch has its own permutation"
    assert not np.array_equal(caption_of, shown_captions(replace(shuffled, seed=1), few))


def test_shuffled_captions_change_only_the_tokens(longer, pairs):
    shuffled = replace(longer, data=replace(longer.data, captions="shuffled"))
    for one, other in zip(loader_of(longer, pairs), loader_of(shuffled, pairs), strict=True):
        assert_equal(one, other, "image", "prefix_len_B")
        assert not torch.equal(one.token_BT, other.token_BT)


def test_images_are_crops_of_the_rendered_pictures(longer, pairs):
    """Without augmentation a batch has exactly the rendered pictures of its rows."""
    train = pairs.train
    plain = {"min_scale": 1, "max_scale": 1, "min_ratio": 1, "max_ratio": 1, "flip_probability": 0}
    batch = batches(replaced(longer, {"augment": plain}), pairs)[0]
    _, rows = order_of(longer.data, train).at(np.arange(8), seed=0)
    whole = np.tile([0, 0, 24, 24], (8, 1))
    expected = crop_and_resize(torch.from_numpy(train.images(rows)), whole, np.zeros(8, dtype=bool), 16)
    torch.testing.assert_close(batch.image, expected)


def test_shuffled_pixels_change_only_the_targets_of_the_pixel_loss(longer, pairs):
    shuffled = replace(longer, data=replace(longer.data, pixels="shuffled"))
    targets = []
    for one, other in zip(loader_of(longer, pairs), loader_of(shuffled, pairs), strict=True):
        assert_equal(one, other, "image", "token_BT", "prefix_len_B")
        assert one.target_image is None
        targets.append(other.target_image)
        assert not torch.equal(other.target_image, one.image)
    own = torch.cat([batch.image for batch in loader_of(longer, pairs)])
    assert not any(torch.equal(target, image) for target, image in zip(torch.cat(targets), own, strict=True))


def test_hidden_patches_are_hidden_from_the_encoder_and_still_targets(longer, pairs):
    hidden = replace(longer, augment=replace(longer.augment, hidden_fraction=0.5))
    for one, other in zip(loader_of(longer, pairs), loader_of(hidden, pairs), strict=True):
        assert torch.equal(other.target_image, one.image)
        patches = other.image.unfold(2, 4, 4).unfold(3, 4, 4)
        is_hidden = (patches == 0).all(dim=(1, 4, 5))
        assert (is_hidden.sum(dim=(1, 2)) == 8).all()
        seen = ~is_hidden[:, None].repeat_interleave(4, 2).repeat_interleave(4, 3).expand_as(other.image)
        assert torch.equal(other.image[seen], one.image[seen])


@pytest.fixture
def native(tiny, with_samples):
    return at_native(with_samples(tiny, 160))


def test_native_batches_have_grids_within_their_area_and_as_many_patches(native, pairs):
    found = list(loader_of(native, pairs))
    assert {batch.num_patches * len(batch.image) for batch in found} == {8 * 16}
    assert {batch.num_patches for batch in found} == set(AREAS)
    for batch in found:
        num_own = batch.grid_B2.prod(dim=1)
        assert (num_own >= 2).all()
        assert (num_own <= batch.num_patches).all()
        assert (batch.prefix_len_B >= 1).all()
        assert (batch.prefix_len_B < num_own).all()
        assert batch.num_scored == int((num_own - batch.prefix_len_B).sum()) == len(batch.scored_K)
        row, place = batch.scored_K // batch.num_patches, batch.scored_K % batch.num_patches
        assert (place >= batch.prefix_len_B[row]).all()
        assert (place < num_own[row]).all()
    assert len({tuple(grid) for batch in found for grid in batch.grid_B2.tolist()}) > 6


@pytest.mark.parametrize("num_workers", [0, 2])
def test_native_batches_are_the_shares_of_their_ranks(native, pairs, num_workers):
    config = replace(native, ranks=2, loader=replace(native.loader, num_workers=num_workers))
    whole = list(loader_of(native, pairs))
    shares = [list(whole_batches(TrainBatches(config, pairs.train, pairs.tokenizer, rank))) for rank in range(2)]
    for step, batch in enumerate(whole):
        own = [found[step] for found in shares]
        for name in ("token_BT", "prefix_len_B", "grid_B2"):
            assert torch.equal(torch.cat([getattr(part, name) for part in own]), getattr(batch, name)), name
        torch.testing.assert_close(torch.cat([part.image for part in own]), batch.image)
        assert own[1].share.first == len(own[0].image)


def test_native_pictures_of_files_keep_their_aspect_ratio(native, tmp_path):
    """Pictures of 30 to 36 x 24 to 28 px."""
    source = pictured_source(tmp_path / "mine", 60)
    augment = {"min_scale": 1, "flip_probability": 0, "min_ratio": 1, "max_ratio": 1}
    config = replaced(native, {"data.sources": (str(source),), "augment": augment})
    found = list(loader_of(config, prepare(config.data, config.model.vocab_size)))
    rows, columns = torch.cat([batch.grid_B2 for batch in found if batch.num_patches == 64]).T
    # 64 patches at 30:28 to 36:24.
    assert set(rows.tolist()) <= {6, 7}
    assert set(columns.tolist()) <= {8, 9}
    for batch in found:
        for image, num_own in zip(batch.image, batch.grid_B2.prod(dim=1).tolist(), strict=True):
            assert not image[:, :, 4 * num_own :].any()
            colours = image[:, :, : 4 * num_own].flatten(1)
            torch.testing.assert_close(colours, colours[:, :1].expand_as(colours), msg="each picture has one colour")


@pytest.mark.parametrize("nodes", [1, 2, 4])
@pytest.mark.parametrize("ranks", [2, 4])
def test_batches_of_canonical_nodes_are_the_same_on_any_ranks(longer, pairs, nodes, ranks):
    config = replaced(longer, {"data.canonical_nodes": nodes})
    shared = replace(config, ranks=ranks)
    for step in range(3):
        whole = batches(config, pairs)[step]
        parts = [TrainBatches(shared, pairs.train, pairs.tokenizer, rank)[step] for rank in range(ranks)]
        for name in ("image", "token_BT", "prefix_len_B"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name)), name


def assert_same(one, other):
    assert one.num_scored == other.num_scored
    assert_equal(one, other, *(name for name, value in one._asdict().items() if isinstance(value, torch.Tensor)))


@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize(
    "changes", [{}, {"captions": "shuffled", "weights": (1, 3)}], ids=["default", "mixed and shuffled"]
)
def test_batches_do_not_depend_on_the_number_of_loader_workers(longer, pairs, num_workers, changes):
    longer = replace(longer, data=replace(longer.data, **changes))
    alone = list(loader_of(longer, pairs))
    shared = list(loader_of(replaced(longer, {"loader.num_workers": num_workers}), pairs))
    assert len(alone) == len(shared) == 10
    for one, other in zip(alone, shared, strict=True):
        assert_same(one, other)
    prefixes = torch.stack([batch.prefix_len_B for batch in alone])
    assert len(torch.unique(prefixes, dim=0)) == 10, "no two batches have the same prefix lengths"


KINDS = ["scenes", "native scenes", "files", "native files", "hidden files", "shuffled files"]


@pytest.fixture(params=everyday(["native scenes", "native files", "hidden files"], KINDS))
def data(request, longer, tmp_path):
    """Return a run and its data; of the files, some are bad."""
    config = at_native(longer) if "native" in request.param else longer
    if "files" in request.param:
        source = pictured_source(tmp_path / "mine", 60, bad={1: "image", 10: "caption", 17: "empty"})
        config = replaced(config, {"data.sources": (str(source),)})
    if "hidden" in request.param:
        config = replaced(config, {"augment.hidden_fraction": 0.5})
    if "shuffled" in request.param:
        config = replaced(config, {"data.pixels": "shuffled"})
    return config, prepare(config.data, config.model.vocab_size)


@pytest.mark.parametrize("name", everyday(["cappa"], ["aimv2", "cappa"]))
@pytest.mark.parametrize("ranks", everyday([2], [1, 2]))
def test_micro_batches_of_the_loader_are_those_into_which_a_batch_is_cut(data, ranks, name):
    """All of them: images, widths of captions, indices, counts and places. CapPa reads the padding of captions."""
    (config, pairs), goal = data, objective(name)
    config = replaced(config, {"ranks": ranks, "objective.name": name})
    for size in (1, 3, 8):
        config = replace(config, micro_batch=size)
        engine = Engine(implementation_of(goal)(build(config), config), config, setup_of(config))
        for rank in range(ranks):
            batches = TrainBatches(config, pairs.train, pairs.tokenizer, rank if ranks > 1 else None)
            steps = loader(batches, micro_batch=size, has_padding=engine.objective.reads_padding)
            for number, parts in enumerate(steps):
                whole, tally = batches[number], reduce(add, (part.tally for part in parts))
                assert tally.counts.tolist() == whole.tally.counts.tolist()
                expected = engine.micro_batches(whole)
                assert sorted(bad for part in parts for bad in part.bad) == sorted(whole.bad)
                for found, part in zip(of_step(parts, whole.tally), expected, strict=True):
                    is_raw = config.data.kind == "files" and not config.augment.hidden_fraction
                    assert found.image.dtype == (torch.uint8 if is_raw else torch.float32)
                    assert_same(found.to(torch.device("cpu")), part)
                    for field in ("num_scored_of_rank", "num_supervised_of_rank", "share"):
                        assert getattr(found, field) == getattr(part, field), field


FAILING_PROCESS = """
from aimv2.data.batches.training import loaded

items = loaded(range(100).__getitem__, range(100), num_workers=1, pin_memory=False)
next(items)
raise MemoryError("no room")
"""


@pytest.mark.exhaustive
def test_a_process_that_fails_does_not_wait_for_its_loaders():
    """They ignore the signal with which multiprocessing ends them at exit."""
    failed = subprocess.run([sys.executable, "-c", FAILING_PROCESS], capture_output=True, text=True, timeout=300)
    assert failed.returncode == 1
    assert "MemoryError: no room" in failed.stderr


@pytest.mark.parametrize("num_workers", [0, 1])
def test_failure_of_the_run_passes_through_loader_processes(num_workers):
    def read(number):
        if number == 2:
            raise RunFailedError("data", "the shard is gone")
        return number

    items = loaded(read, range(4), num_workers=num_workers, pin_memory=False)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(RunFailedError, match="the shard is gone") as caught:
        next(items)
    assert caught.value.cause == "data"
