"""Shards that 1, 2 and 4 ranks write, with whole weights or with parts, read by any other number of ranks."""

import json
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor, distribute_tensor

from aimv2.definitions.objectives import objective
from aimv2.memory.setup import setup_of
from aimv2.objectives.build import build, implementation_of
from aimv2.training import checkpoint
from aimv2.training.engine import Engine
from aimv2.training.optimizer import build_optimizer
from aimv2.training.shards import load_shards, read_about, verify_shards, write_shards
from tests.helpers.files import files_limited_to
from tests.helpers.ranks import on_ranks
from tests.helpers.training import changed

WORLDS = [(1, "ddp"), *product((2, 4), ("ddp", "fsdp")), (4, "hsdp")]
WITHOUT_MOMENTS = 3  # the number of a parameter that no gradient has reached


def state_of(config):
    """Return a network's weights and moments as a run might have them, the same in every process."""
    draw, state = torch.Generator().manual_seed(7), {}
    model = build(config)
    for name, value in model.state_dict().items():
        state[f"model/{name}"] = torch.randn(value.shape, generator=draw)
    for number, (name, value) in enumerate(model.named_parameters()):
        if number != WITHOUT_MOMENTS:
            state[f"step/{name}"] = torch.tensor(12.0)
            for moment in ("exp_avg", "exp_avg_sq"):
                state[f"{moment}/{name}"] = torch.rand(value.shape, generator=draw)
    return state


def fill(model, optimizer, state):
    """Set weights and moments, of which a rank may hold shards."""
    for name, value in model.state_dict().items():
        value.copy_(like(value, state[f"model/{name}"]))
    for name, parameter in model.named_parameters():
        if f"step/{name}" in state:
            optimizer.state[parameter] = {
                "step": state[f"step/{name}"],
                **{moment: like(parameter, state[f"{moment}/{name}"]) for moment in ("exp_avg", "exp_avg_sq")},
            }


def like(tensor, whole):
    if isinstance(tensor, DTensor):
        return distribute_tensor(whole, tensor.device_mesh, tensor.placements)
    return whole.clone()


def whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def network_of(config, ranks, parallel, world):
    """Return a network and its optimizer as the training loop has them."""
    config = changed(config, {"ranks": ranks, "parallel": parallel, "ranks_per_node": 2})
    model = build(replace(config, seed=5))
    engine = Engine(implementation_of(objective(config.objective.name))(model, config), config, setup_of(config), world)
    return engine, model, build_optimizer(model, config.optimizer)


def folder_of(root, ranks, parallel):
    return root / f"{ranks}-{parallel}" / "attempts" / "0001"


def save_on(world, config, root):
    """Save the state, as each kind of these ranks."""
    for parallel in [parallel for number, parallel in WORLDS if number == world.size]:
        engine, model, optimizer = network_of(config, world.size, parallel, world)
        with torch.no_grad():
            fill(model, optimizer, state_of(config))
        progress = checkpoint.Progress(step=12)
        checkpoint.save(folder_of(root, world.size, parallel), model, optimizer, progress, world=world).result()
        del engine


def restore_on(world, config, root):
    """Restore all that was saved, as each kind of these ranks, and compare it with the state."""
    expected = state_of(config)
    for saved, parallel in product(WORLDS, [parallel for number, parallel in WORLDS if number == world.size]):
        engine, model, optimizer = network_of(config, world.size, parallel, world)
        path = folder_of(root, *saved) / checkpoint.FOLDER / "000000012"
        checkpoint.Checkpoint(path, 1, checkpoint.Progress(), []).restore(model, optimizer)
        found = {f"model/{name}": whole(value) for name, value in model.state_dict().items()}
        for name, parameter in model.named_parameters():
            found |= {f"{moment}/{name}": whole(value) for moment, value in optimizer.state[parameter].items()}
        assert found.keys() == expected.keys(), (saved, parallel)
        for name, value in expected.items():
            assert torch.equal(found[name], value), (saved, parallel, name)
        del engine


@pytest.fixture(scope="module")
def saved(tiny, tmp_path_factory):
    """The folder with the same state, saved by each number and kind of ranks."""
    root = tmp_path_factory.mktemp("saved")
    for ranks in (1, 2, 4):
        with tempfile.TemporaryDirectory() as folder:
            on_ranks(ranks, Path(folder), save_on, tiny, root)
    return root


@pytest.mark.exhaustive
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_any_ranks_restore_what_any_others_have_saved(tiny, saved, ranks, tmp_path):
    """Weights and moments are equal bit for bit; each rank compares its own."""
    on_ranks(ranks, tmp_path, restore_on, tiny, saved)


@pytest.mark.exhaustive
def test_every_file_is_json_or_safetensors(saved):
    files = [path for path in saved.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    for path in files:
        assert json.loads(path.read_bytes()) if path.suffix == ".json" else load_file(path)


def test_folder_has_values_and_a_checksum_of_each_shard(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1.0), "c": torch.ones(2, dtype=torch.bfloat16)}
    seen = []

    def look():
        seen.extend(path.name for path in tmp_path.iterdir())

    write_shards(tensors, tmp_path / "folder", tmp_path / ".partial", {"step": 3, "run": "x"}, on_written=look)
    assert seen == [".partial"], "the folder appears when it is complete"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    described = read_about(tmp_path / "folder")
    assert described.about == {"step": 3, "run": "x"}
    verify_shards(tmp_path / "folder", described)
    (name,) = described.shards
    found = load_file(tmp_path / "folder" / name)
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
    filled = {name: torch.zeros_like(value) for name, value in tensors.items()}
    load_shards(filled, tmp_path / "folder")
    assert all(torch.equal(filled[name], value) for name, value in tensors.items())


def full(world, folder):
    """Write a large shard on rank 1, whose disk is full."""
    tensors = {str(world.rank): torch.ones(1000)}
    with files_limited_to(1000 if world.rank else 10**9), pytest.raises(OSError, match="File too large"):
        write_shards(tensors, folder / "new", folder / ".new", {}, group=world.saving)


def test_all_ranks_learn_that_one_cannot_write(tmp_path):
    on_ranks(2, tmp_path, full, tmp_path)
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / ".new").exists()
