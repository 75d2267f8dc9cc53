"""How fast this machine trains a model, from a few real steps."""

import contextlib
import hashlib
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ablations.budget import flops_per_sample
from aimv2.config import BudgetConfig, RunConfig
from aimv2.record import write_json
from sweeps.room import available_memory, memory_bytes

STEPS = 8
MAX_SECONDS = 10.0  # after which no further step is taken, once there are two
MAX_FLOPS = {"cpu": 1e12, "cuda": 1e14}  # of a step; a batch that takes more is measured by a part of it


_measured: dict[str, float | None] = {}  # by this process


def known_images_per_second(config: RunConfig) -> float | None:
    """Training speed of one worker, if it was measured on this machine before."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # not measured yet, or nothing to rely on
        return float(json.loads(_file(config).read_text())["images_per_second"])
    return None


def images_per_second(config: RunConfig, *, keep: bool) -> float | None:
    """Training speed of one worker, measured once per machine and shape; None if the model is too large to train here.

    Args:
        keep: write the measurement to the cache folder, for the next time.
    """
    name = _file(config).name
    if name not in _measured:
        _measured[name] = known_images_per_second(config) or _measured_now(config, keep=keep)
    return _measured[name]


def unknown_speed(config: RunConfig) -> None:
    """The training speed of machines that are not this one."""


def _measured_now(config: RunConfig, *, keep: bool) -> float | None:
    size = _measured_batch(config)
    part = replace(config, budget=BudgetConfig(samples=size, batch_size=size))
    if config.device == "cpu" and memory_bytes(part) > available_memory():
        return None
    speed = _measure(part)
    if keep:
        path = _file(config)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"images_per_second": speed, "measured_batch": size, "shape": _shape(config)})
    return speed


def _measured_batch(config: RunConfig) -> int:
    images = int(MAX_FLOPS["cuda" if config.device == "cuda" else "cpu"] / flops_per_sample(config))
    return min(max(images, 1), config.budget.batch_size)


def _file(config: RunConfig) -> Path:
    name = hashlib.sha256(json.dumps(_shape(config), sort_keys=True).encode()).hexdigest()[:12]
    return Path(config.data.cache_dir) / "speed" / f"{name}.json"


def _shape(config: RunConfig) -> list[Any]:
    """What the speed depends on."""
    from aimv2.run import hardware

    return [
        asdict(config.model),
        config.objective.name,
        config.budget.batch_size,
        config.precision,
        hardware(config.device),
        config.threads,
        STEPS,
    ]


def _measure(config: RunConfig) -> float:
    import torch

    from aimv2.data.batches import Batch
    from aimv2.model.network import build
    from aimv2.objectives import objective
    from aimv2.training.device import autocast
    from aimv2.training.optimizer import build_optimizer

    model_config, size = config.model, config.budget.batch_size
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        model = build(config).to(config.device)
        goal = objective(config.objective.name)
        optimizer = build_optimizer(model, config.optimizer)
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(size, 3, model_config.image_px, model_config.image_px, generator=generator)
        token_BT = torch.randint(2, model_config.vocab_size, (size, model_config.max_text_tokens), generator=generator)
        prefix_len_B = torch.randint(1, model_config.num_patches, (size,), generator=generator)
        batch = Batch(
            image=image,
            token_BT=token_BT,
            prefix_len_B=prefix_len_B,
            supervised_N=torch.arange(0, token_BT.numel(), 2),
            text_len_B=torch.full((size,), model_config.max_text_tokens),
            num_scored=int((model_config.num_patches - prefix_len_B).sum()),
        ).to(torch.device(config.device))
        seconds = []
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
        return size / min(seconds)  # the first steps warm up, and others may be disturbed
    finally:
        torch.set_num_threads(before)
