"""The peak memory of training steps, by torch's allocations and as the resident memory of a fresh process.

As a program, ``python -m tests.helpers.peak_memory CASE`` prints the bytes by which some steps raise the largest
resident memory of the process, for a ``Case`` as JSON.
"""

import gc
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from aimv2.config.recipes.scales import demo, vit_l
from aimv2.config.run_config import RunConfig
from aimv2.data.batches.batch import Batch
from aimv2.memory.setup import setup_of
from aimv2.request.resolve import with_attention
from aimv2.training.engine import Engine
from benchmarks.step import TrainingStep

STEPS = 3  # AdamW's moments exist from the second one on
# glibc keeps freed blocks below this size, which it raises up to 32 MB as it likes; fixed, it returns all larger ones.
RETURNED_BYTES = "65536"
MIN_TOKEN = 2  # padding and end-of-text come first

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # before the first profile: it prints two lines for each otherwise


@dataclass(frozen=True, kw_only=True)
class Case:
    """A run to measure.

    Attributes:
        width: of the encoder and the decoder in ViT-L's shape; None is ``demo``.
        depths: numbers of their blocks.
        image_px: side of their images, in patches of 14 px.
    """

    batch_size: int
    micro_batch: int
    saves_inputs: bool = False
    width: int | None = None
    depths: tuple[int, int] = (2, 1)
    image_px: int = 224
    objective: str = "aimv2"
    precision: Literal["float32", "bfloat16"] = "float32"

    @property
    def config(self) -> RunConfig:
        config = demo()
        if self.width is not None:
            config, model = vit_l(), vit_l().model
            stack = {"width": self.width, "num_heads": self.width // 128}
            parts = (model.encoder, model.decoder)
            encoder, decoder = (replace(part, **stack, depth=n) for part, n in zip(parts, self.depths, strict=True))
            tower = replace(model.text_tower, **stack, depth=1)
            model = replace(model, encoder=encoder, decoder=decoder, text_tower=tower, vocab_size=8192)
            model, data = replace(model, image_px=self.image_px), replace(config.data, render_px=self.image_px)
            config = replace(config, model=model, data=data)
        config = with_objective(config, self.objective, batch_size=self.batch_size)
        values = {"parallel": "ddp", "micro_batch": self.micro_batch, "activation_checkpointing": self.saves_inputs}
        return replace(config, precision=self.precision, **values)


def peak_bytes(call: Callable[[], object], device: str = "cpu") -> int:
    """Return the largest number of bytes that the call's tensors take at a time, beyond what is allocated before.

    On the CPU it sums the allocations and releases that torch's profiler records, on CUDA it reads the allocator's own
    peak. Both are exact and do not depend on other processes. Scratch memory that kernels' libraries allocate by
    themselves is not seen.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        recorded.export_chrome_trace(str(path))
        events = [event for event in json.loads(path.read_text())["traceEvents"] if event["name"] == "[memory]"]
    taken = peak = 0
    for event in sorted(events, key=lambda event: event["ts"]):  # stable: the order of equal times is the file's
        taken += event["args"]["Bytes"]
        peak = max(peak, taken)
    return peak


def with_objective(config: RunConfig, name: str, *, batch_size: int) -> RunConfig:
    """Return the run with an objective and its attention, in float32 on the CPU."""
    return with_attention(
        replace(
            config,
            objective=replace(config.objective, name=name),
            budget=replace(config.budget, samples=0, batch_size=batch_size),
            precision="float32",
            device="cpu",
        )
    )


def random_batch(config: RunConfig) -> Batch:
    """Return a batch of noise, whose captions have the maximal length and whose prefixes are drawn as in training."""
    model, generator, B = config.model, torch.Generator().manual_seed(0), config.budget.batch_size
    token_BT = torch.randint(MIN_TOKEN, model.vocab_size, (B, model.max_text_tokens), generator=generator)
    draws = {"seed": 0, "epoch_B": np.zeros(B, int), "sample_id_B": np.arange(B), "step": 0, "num_steps": 1}
    prefix_len_B = torch.from_numpy(config.prefix.draw(**draws, num_patches=model.num_patches))
    image = torch.randn(B, 3, model.image_px, model.image_px, generator=generator)
    text_len_B = torch.full((B,), model.max_text_tokens)
    return Batch.of(image, token_BT, prefix_len_B, torch.arange(token_BT.numel()), text_len_B, config)


def step_of(config: RunConfig) -> TrainingStep:
    return TrainingStep(config, random_batch(config))


def allocated(case: Case) -> int:
    """Return the largest number of bytes that the tensors of a step and of the balance of gradients take at a time,
    beyond weights, moments and the batch."""
    config = case.config
    step, batch = step_of(config), random_batch(config)
    engine = Engine(step.objective, config, setup_of(config))
    step()
    return max(peak_bytes(step, "cpu"), peak_bytes(lambda: engine.gradient_balance(engine.micro_batches(batch)), "cpu"))


def resident(case: Case) -> int:
    """Return the bytes by which training raises the largest resident memory of a fresh process (Linux)."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": RETURNED_BYTES, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", __name__, json.dumps(asdict(case))]
    return int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def _grown(case: Case) -> int:
    torch.set_num_threads(1)
    warm = replace(case, width=None, batch_size=1, micro_batch=1).config  # loads kernels and their libraries
    step_of(warm)()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the largest is counted from here
    before = _status("VmRSS")
    step = step_of(case.config)
    for _ in range(STEPS):
        step()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), flags=re.MULTILINE)
    assert found is not None, "Linux reports it"
    return 1024 * int(found[1])


if __name__ == "__main__":
    print(_grown(Case(**json.loads(sys.argv[1]))))
