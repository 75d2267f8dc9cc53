"""Another model than AIMv2: the mean of noisy numbers, whose error falls with their number."""

from dataclasses import dataclass, replace

import numpy as np

from aimv2.ablations.design import one_factor, setting
from aimv2.ablations.study import Study
from aimv2.config.program import Program
from aimv2.definitions.items import Items
from aimv2.definitions.metrics import Definition
from aimv2.definitions.programs import add_program

ITEMS = 50


@dataclass(frozen=True, kw_only=True)
class Mean(Program):
    """Estimates ITEMS means from ``numbers`` draws of each, in ``steps`` steps."""

    numbers: int = 40
    steps: int = 4
    scale: tuple[float, ...] = (1.0,)
    shuffled: bool = False

    @property
    def num_samples(self):
        return self.numbers * self.steps

    @property
    def train_flops(self):
        return 2 * ITEMS * self.num_samples

    def measure(self, run):
        truth = np.random.default_rng(1).normal(size=ITEMS)
        total, first = np.zeros(ITEMS), 0
        if run.resumed:
            total, first = run.resumed["total"], int(run.resumed["step"])
        for step in range(first, self.steps):
            noise = np.random.default_rng((self.seed, step)).normal(size=(self.numbers, ITEMS))
            total = total + (truth + self.scale[0] * noise).sum(axis=0)
            found = total / (self.numbers * (step + 1))
            error = (found - (truth[::-1] if self.shuffled else truth)) ** 2
            run.log(step=step + 1, samples=self.numbers * (step + 1), held_out_loss=error.mean())
            run.save(step + 1, {"total": total, "step": np.array(step + 1)})
        return {"mean_error": Items.of(np.arange(ITEMS), error), "largest_error": error.max()}

    def with_shuffled_targets(self):
        return replace(self, shuffled=True)


add_program("mean", Mean, Definition("mean_error", "squared", True), Definition("largest_error", "squared", True))
STUDY = Study(
    slug="numbers",
    question="Do more numbers make a mean more exact?",
    source="the law of large numbers",
    base=Mean(),
    design=one_factor(**{f"numbers_{one}": setting(f"{one} numbers", {"numbers": one}) for one in (10, 40, 160)}),
    baseline="numbers_40",
    primary_metric="mean_error",
    equivalence_margin=1e-4,
    expected={"numbers_10": "worse", "numbers_160": "better"},
)
