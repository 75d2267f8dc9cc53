"""python analysis/cost_study.py: what encoders and objectives cost, as measurements and a report."""

import math
import os
import shlex
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from time import process_time
from typing import Annotated, Literal

if __name__ == "__main__":  # typed as a path: the packages beside it are meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from aimv2.base.errors import UsageError, unknown
from aimv2.base.files import writable_folder
from aimv2.base.hardware import hardware
from benchmarks.encoder import PRECISIONS
from benchmarks.timing import read_options
from pydantic import Field, PositiveInt
from rich.console import Console
from torch.utils.benchmark import timer

from aimv2.cli import guarded
from aimv2.config.arguments import HELP, checked
from analysis.costs.architectures import ARCHITECTURES, OURS
from analysis.costs.document import document
from analysis.costs.encoders import DEPTH, EncoderStudy, require_packages
from analysis.costs.measurements import Machine, Measurements
from analysis.costs.training import Scale, TrainingStudy, scales
from analysis.document.write import write

SLUG = "costs"
USAGE = f"""usage: python analysis/cost_study.py [key=value ...]

Measure what AIMv2's encoder costs beside those of CLIP, SigLIP and DINOv2, all of the size of ViT-L and randomly
initialised, at matched tokens; and what a training step of every objective costs. Write reports/{SLUG}/. It takes about
12 minutes on two free cores and 8 GB of memory.

  models={",".join(ARCHITECTURES)}
                               encoders; {OURS} is always one of them
  patches=256,576              patches per image, square numbers
  precisions=float32,bfloat16  precisions of weights and activations
  batch=4                      images of the larger batch; the smaller is 1
  rounds=16                    timings of each encoder with one image, and of each objective; an interval needs 6
  batch_rounds=6               timings of each encoder with the larger batch
  train_batch=2                samples of a training step in the proportions of ViT-L
  depth={DEPTH}                     blocks of the encoders; fewer for a quick look
  threads=2                    CPU threads; the default is all cores
  device=auto                  auto, cpu or cuda
  clock=wall                   wall, or cpu: CPU seconds of the process, for a busy machine, with threads=1
  reports_dir=reports          the folder of reports
  debug=true                   show the traceback of an error
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a measurement, as USAGE describes them; None is the default described there."""

    models: str = ",".join(ARCHITECTURES)
    patches: str = "256,576"
    precisions: str = ",".join(PRECISIONS)
    batch: Annotated[int, Field(ge=2)] = 4
    rounds: Annotated[int, Field(ge=2)] = 16
    batch_rounds: Annotated[int, Field(ge=2)] = 6
    train_batch: PositiveInt = 2
    depth: PositiveInt = DEPTH
    threads: PositiveInt | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    clock: Literal["wall", "cpu"] = "wall"
    reports_dir: str = "reports"


def main(arguments: Sequence[str]) -> int:
    """Measure and report; the exit status is 0 when the report is written and 2 when that is not possible."""
    if HELP & set(arguments):
        print(USAGE, end="")
        return 0
    return guarded(_study, arguments)


def script() -> int:
    """The console script."""
    return main(sys.argv[1:])


def _study(arguments: Sequence[str]) -> int:
    options = read_options(Options, arguments)
    writable_folder(options.reports_dir, "reports_dir")
    console = Console(stderr=True)
    measurements = measure(
        options, arguments, scales(options.train_batch), lambda text: console.print(text, highlight=False)
    )
    print(write(document(measurements), Path(options.reports_dir, SLUG)))
    return 0


def measure(
    options: Options, arguments: Sequence[str], scales: list[Scale], progress: Callable[[str], None]
) -> Measurements:
    """Measure encoders and objectives.

    Args:
        arguments: of the command line, for the report.
        scales: those at which objectives are compared.
        progress: called with what is measured next.

    Raises:
        UsageError: an option has a value that is not allowed, or a package to compare with is missing.
    """
    device = _device(options.device)
    if options.clock == "cpu" and device == "cuda":
        raise UsageError("clock=cpu does not see the work of a CUDA device; use clock=wall or device=cpu")
    clock = process_time if options.clock == "cpu" else timer  # which waits for the device
    encoders = EncoderStudy(
        names=_names("model", options.models, ARCHITECTURES),
        patches=_patches(options.patches),
        precisions=_names("precision", options.precisions, PRECISIONS),
        rounds={1: options.rounds, options.batch: options.batch_rounds},
        depth=options.depth,
        device=device,
        clock=clock,
    )
    if OURS not in encoders.names:
        raise UsageError(f"models={options.models} has no {OURS}, with which the others are compared; add it")
    require_packages(encoders.names)
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    typed = [text for text in arguments if not text.startswith("reports_dir=")]  # a place on this machine
    before = torch.get_num_threads()
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(options.threads or num_cores)
    objectives = TrainingStudy(rounds=options.rounds, device=device, clock=clock)
    try:
        return Measurements(
            command=shlex.join(["python", "analysis/cost_study.py", *typed]),
            clock=options.clock,
            depth=options.depth,
            encoders=list(encoders.measure(progress)),
            training=list(objectives.measure(scales, progress)),
            machine=Machine(
                name=hardware(device),
                device=device,
                threads=torch.get_num_threads(),
                packages={name: metadata.version(name) for name in _packages(encoders.names)},
                load=load,
            ),
        )
    finally:
        torch.set_num_threads(before)


def _packages(names: Collection[str]) -> list[str]:
    """Return the distributions whose versions matter."""
    return ["torch", *dict.fromkeys(ARCHITECTURES[name].distribution for name in names if name != OURS)]


def _device(asked: str) -> Literal["cpu", "cuda"]:
    """Return the device to use.

    Raises:
        UsageError: there is no CUDA device.
    """
    has_cuda = torch.cuda.is_available()
    if asked == "cuda" and not has_cuda:
        raise UsageError("device=cuda, but torch finds no CUDA device here; use device=cpu or device=auto")
    return "cuda" if has_cuda and asked != "cpu" else "cpu"


def _names(kind: str, text: str, allowed: Collection[str]) -> tuple[str, ...]:
    """Return the names of a list with commas.

    Raises:
        UsageError: a name is unknown.
    """
    names = tuple(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in allowed:
            raise unknown(kind, name, allowed)
    return names


def _patches(text: str) -> tuple[int, ...]:
    """Return the numbers of patches of a list with commas.

    Raises:
        UsageError: a number is no square.
    """
    numbers = tuple(checked("patches", PositiveInt, number) for number in dict.fromkeys(text.split(",")))
    for number in numbers:
        if math.isqrt(number) ** 2 != number:
            raise UsageError(f"patches={number} is not the square of a number of patches per side, such as 256 or 576")
    return numbers


if __name__ == "__main__":
    sys.exit(script())
