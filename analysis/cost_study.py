"""python analysis/cost_study.py: what encoders and objectives cost, as measurements and a report."""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # typed as a path: the packages beside it are meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console

from aimv2.base.files import writable_folder
from aimv2.config.arguments import HELP, guarded
from analysis.costs.document import document
from analysis.costs.measurements import ARCHITECTURES, OURS
from analysis.costs.measuring.encoders import DEPTH
from analysis.costs.measuring.study import Options, measure
from analysis.costs.measuring.training import scales
from analysis.document.write import write
from benchmarks.timing import read_options

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


if __name__ == "__main__":
    sys.exit(script())
