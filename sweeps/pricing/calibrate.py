"""How fast this machine trains a model, from a few real steps."""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.budget import flops_per_sample
from aimv2.config.run_config import BudgetConfig, RunConfig
from aimv2.hardware import hardware
from aimv2.runs.files import write_json
from sweeps.machine.room import available_memory, memory_bytes

if TYPE_CHECKING:
    from aimv2.data.batches import Batch

STEPS = 8
MAX_SECONDS = 10.0  # after which no further step is taken, once there are two
MAX_FLOPS = {"cpu": 1e12, "cuda": 1e14}  # of a step; a batch that takes more is measured by a part of it


_measured: dict[Path, dict[str, Any] | None] = {}  # by this process


def images_per_second(config: RunConfig, *, keep: bool) -> float | None:
    """Training speed of one worker, measured once per machine and shape; None if the model is too large to train here.

    Args:
        keep: write the measurement to the cache folder, for the next time.
    """
    speed = once(speed_file(config), lambda: _measured_speed(config), keep=keep)
    return None if speed is None else float(speed["images_per_second"])


def unknown_speed(config: RunConfig) -> None:
    """What machines that are not this one take for a run, or how fast they train."""


def once(path: Path, measure: Callable[[], dict[str, Any] | None], *, keep: bool) -> dict[str, Any] | None:
    """What was measured by this process or an earlier one, or is now."""
    if path not in _measured:
        found = recorded(path)
        if found is None:
            found = measure()
            if found is not None and keep:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, found)
        _measured[path] = found
    return _measured[path]


def recorded(path: Path) -> dict[str, Any] | None:
    """A measurement of an earlier process; None if there is none, or nothing to rely on."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        if isinstance(found, dict) and "shape" in found:
            return found
    return None


def file_of(config: RunConfig, shape: list[Any]) -> Path:
    """Where a measurement is kept that depends on this and on nothing else."""
    name = hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:12]
    return Path(config.data.cache_dir) / "speed" / f"{name}.json"


def fits(config: RunConfig) -> bool:
    """Whether training so large a batch fits the memory that is free now."""
    return config.device != "cpu" or memory_bytes(config) <= available_memory()


def measured_batch(config: RunConfig, most: int) -> RunConfig:
    """The run with a single batch, of as many images as one can wait for, at least one."""
    size = int(MAX_FLOPS["cuda" if config.device == "cuda" else "cpu"] / flops_per_sample(config))
    size = min(max(size, 1), most)
    return replace(config, budget=BudgetConfig(samples=size, batch_size=size))


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """As many threads as the run would have."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def speed_file(config: RunConfig) -> Path:
    return file_of(config, _shape(config))


def _shape(config: RunConfig) -> list[Any]:
    """What the speed depends on."""
    return [
        asdict(config.model),
        config.objective.name,
        config.budget.batch_size,
        config.precision,
        hardware(config.device),
        config.threads,
        STEPS,
    ]


def _measured_speed(config: RunConfig) -> dict[str, Any] | None:
    part = measured_batch(config, config.budget.batch_size)
    if not fits(part):
        return None
    size = part.budget.batch_size
    return {"images_per_second": size / _step_seconds(part), "measured_batch": size, "shape": _shape(config)}


def _step_seconds(config: RunConfig) -> float:
    """Wall time of a training step with the run's batch."""
    import torch

    from aimv2.model.network import build
    from aimv2.objectives import objective
    from aimv2.training.device import autocast
    from aimv2.training.optimizer import build_optimizer

    with threads(config.threads):
        model = build(config).to(config.device)
        goal = objective(config.objective.name).load()
        optimizer = build_optimizer(model, config.optimizer)
        batch = random_batch(config).to(torch.device(config.device))
        seconds: list[float] = []
        for _ in range(STEPS):
            start = time.perf_counter()
            with autocast(config):
                loss = goal.losses(model, batch, config).total
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss.item()  # waits for the device
            seconds.append(time.perf_counter() - start)
            if sum(seconds) > MAX_SECONDS and len(seconds) > 1:
                break
        return min(seconds)  # the first steps warm up, and others may be disturbed


def random_batch(config: RunConfig) -> "Batch":
    """A batch of noise in the run's shapes; half of the caption tokens are targets."""
    import torch

    from aimv2.data.batches import Batch

    model, size = config.model, config.budget.batch_size
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(size, 3, model.image_px, model.image_px, generator=generator)
    token_BT = torch.randint(2, model.vocab_size, (size, model.max_text_tokens), generator=generator)
    prefix_len_B = torch.randint(1, model.num_patches, (size,), generator=generator)
    return Batch(
        image=image,
        token_BT=token_BT,
        prefix_len_B=prefix_len_B,
        supervised_N=torch.arange(0, token_BT.numel(), 2),
        text_len_B=torch.full((size,), model.max_text_tokens),
        num_scored=int((model.num_patches - prefix_len_B).sum()),
    )
