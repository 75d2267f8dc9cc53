"""How fast this machine trains a model, from a few real steps."""

import contextlib
import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path

from aimv2.config import RunConfig
from aimv2.record import write_json

STEPS = 8


def images_per_second(config: RunConfig, *, keep: bool) -> float:
    """Training speed of one worker, measured once per machine and shape.

    Args:
        keep: write the measurement to the cache folder, for the next time.
    """
    from aimv2.run import hardware

    shape = [
        asdict(config.model),
        config.objective.name,
        config.budget.batch_size,
        config.precision,
        hardware(config.device),
        config.threads,
        STEPS,
    ]
    name = hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:12]
    path = Path(config.data.cache_dir) / "speed" / f"{name}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # not measured yet, or nothing to rely on
        return float(json.loads(path.read_text())["images_per_second"])
    speed = _measure(config)
    if keep:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"images_per_second": speed, "shape": shape})
    return speed


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
        return size / min(seconds)  # the first steps warm up, and others may be disturbed
    finally:
        torch.set_num_threads(before)
