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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from aimv2.config.recipes.scales import demo, vit_l
from aimv2.config.run_config import RunConfig
from aimv2.memory.setup import setup_of
from aimv2.training.engine import Engine
from benchmarks.cost_training import random_batch, step_of, with_objective
from benchmarks.peak import peak_bytes

STEPS = 3  # AdamW's moments exist from the second one on
# glibc keeps freed blocks below this size, which it raises up to 32 MB as it likes; fixed, it returns all larger ones.
RETURNED_BYTES = "65536"


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
        config = with_objective(config, self.objective, batch_size=self.batch_size, device="cpu")
        values = {"parallel": "ddp", "micro_batch": self.micro_batch, "activation_checkpointing": self.saves_inputs}
        return replace(config, precision=self.precision, **values)


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
