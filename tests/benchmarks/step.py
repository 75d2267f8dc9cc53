"""python tests/benchmarks/step.py [model=vit_l_shape] [batch=16] [repeats=10] [threads=2] [clock=wall]: our step and a
straightforward one (tests/helpers/reference.py), interleaved in one process, in float32 and bfloat16.

Prints, for each model and precision, the median over repeats of the ratio of the reference's time to ours and its 95 %
interval by order statistics, which needs 6 repeats. Times leave out the data. All models by default.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":  # typed as a path: the code beside this file is meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from aimv2.bench.encoder import PRECISIONS
from aimv2.bench.timing import CLOCKS, interleaved, ratio
from aimv2.bench.training import CASES, TrainingStep, batches_of
from aimv2.heap import keep_freed_memory
from aimv2.model.network import build
from tests.helpers.reference import ReferenceStep

USAGE = f"{__doc__}"
DEFAULTS = {"model": ",".join(CASES), "batch": "16", "repeats": "10", "threads": "2", "clock": "wall"}


def compare(name: str, batch_size: int, repeats: int, clock: str) -> dict[str, tuple[float, float, float]]:
    """Return the ratio of the reference's time to ours and its interval, by precision."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        batches = batches_of(CASES[name](), Path(folder) / "pairs", batch_size)
        batch = batches[0]
        for precision in PRECISIONS:
            config = replace(batches.config, precision=precision)
            calls = {
                "ours": TrainingStep(lambda: batch, config, CLOCKS[clock]),
                "reference": ReferenceStep(build(config), lambda: batch, config),
            }
            seconds = interleaved(calls, repeats, clock=CLOCKS[clock])
            found[precision] = ratio(seconds["reference"], seconds["ours"])
    return found


def main(words: Sequence[str]) -> int:
    """Print a table."""
    if "--help" in words:
        print(USAGE, end="")
        return 0
    values = DEFAULTS | dict(word.partition("=")[::2] for word in words)
    if values.keys() != DEFAULTS.keys() or values["clock"] not in CLOCKS:
        print(USAGE, end="")
        return 2
    keep_freed_memory()  # for both
    torch.set_num_threads(int(values["threads"]))
    print("| model | precision | reference / ours [95 %] |\n| --- | --- | --- |")
    for name in values["model"].split(","):
        for precision, (median, low, high) in compare(
            name, int(values["batch"]), int(values["repeats"]), values["clock"]
        ).items():
            print(f"| {name} | {precision} | {median:.2f} [{low:.2f}, {high:.2f}] |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
