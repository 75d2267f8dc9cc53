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

    from aimv2.model.aimv2 import build
    from aimv2.objectives import aimv2_losses
    from aimv2.training.device import autocast
    from aimv2.training.optimizer import build_optimizer

    model_config, size = config.model, config.budget.batch_size
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        model = build(model_config, seed=0).to(config.device)
        optimizer = build_optimizer(model, config.optimizer)
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(size, 3, model_config.image_px, model_config.image_px, generator=generator)
        token_BT = torch.randint(2, model_config.vocab_size, (size, model_config.max_text_tokens), generator=generator)
        prefix_len_B = torch.randint(1, model_config.num_patches, (size,), generator=generator)
        batch = [t.to(config.device) for t in (image, token_BT, prefix_len_B, torch.arange(0, token_BT.numel(), 2))]
        seconds = []
        for _ in range(STEPS):
            start = time.perf_counter()
            with autocast(config):
                pixel, text = aimv2_losses(model, *batch, config=config.objective, patch_px=model_config.patch_px)
            (text + pixel).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            pixel.item()  # waits for the device
            seconds.append(time.perf_counter() - start)
        return size / min(seconds)  # the first steps warm up, and others may be disturbed
    finally:
        torch.set_num_threads(before)
