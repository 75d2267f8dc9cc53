"""python sweeps/search.py search=optimizer: tune a recipe with Optuna (ask and tell).

Trials are measured on a validation split (``evaluation.split``), which no report reads.

A trial is a run like any other: named by what it computes, done once, and stored in the runs folder. Optuna's journal
only stores which values were requested, so an interrupted search resumes with its unfinished trials.
"""

import hashlib
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

if __name__ == "__main__":  # typed as a path: the packages beside it are meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.table import Table

from ablations.expand import Cell
from aimv2.cli import guarded
from aimv2.config.arguments import HELP, checked
from aimv2.config.compose import compose, run_config
from aimv2.config.data_config import CHECKED
from aimv2.config.paths import replaced, value_at
from aimv2.config.resolve import resolve
from aimv2.config.run_config import RunConfig
from aimv2.config.signature import identity
from aimv2.errors import UsageError, unknown
from aimv2.evaluation.metrics import SCENE_TASKS, TASKS, lower_is_better, metric_names, not_applicable, set_names
from aimv2.objectives import objective
from aimv2.runs.files import writable_folder
from aimv2.runs.interrupt import Interrupts
from aimv2.runs.record import RunFolder
from sweeps.executors.local import CONF_DIR, LocalExecutor
from sweeps.plan import Plan

FOLDER = "searches"
SEARCHES = sorted(path.stem for path in (CONF_DIR / "search").glob("*.yaml"))
USAGE = f"""usage: python sweeps/search.py search=NAME [key=value ...]

Tune values of a scale. Trials are runs, and each is executed once. The same command resumes an interrupted search.

  search=NAME                  the search: {", ".join(SEARCHES)}
  search.trials=12             total number of trials
  search.metric=content_loss   the metric that decides, measured on a validation split
  scale=demo                   the scale
  budget.samples=4096          any other value of the trials, by its path
  executor=local|debug         worker processes, or this process
  runs_dir=runs                the runs folder
  debug=true                   show the traceback of an error
"""

console = Console(highlight=False)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Parameter:
    """A value of the run to vary, by its path, between two bounds, on a logarithmic scale if ``log``."""

    path: str
    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        self.distribution()  # refuses impossible bounds

    def distribution(self) -> FloatDistribution:
        return FloatDistribution(self.low, self.high, log=self.log)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SearchConfig:
    """The parameters, the final metric that decides, and the number of trials in all."""

    metric: str
    trials: int = Field(gt=0)
    parameters: tuple[Parameter, ...]

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        return "minimize" if lower_is_better(self.metric) else "maximize"


def main(arguments: Sequence[str]) -> int:
    """Search. Return 0 if every trial is done, 1 if some failed, 2 if the search is refused, 130 if interrupted."""
    if not arguments or HELP & set(arguments):
        print(USAGE, end="")
        return 0 if arguments else 2
    with Interrupts().listening():
        return guarded(search, arguments)


def search(arguments: Sequence[str]) -> int:
    values = compose(
        arguments, defaults={"executor": "local", "search": SEARCHES[0]}, values={"runs_dir": "runs"}, conf_dir=CONF_DIR
    )
    config = checked("search", SearchConfig, values["search"])
    if values["executor"]["cluster"] == "slurm":
        raise UsageError("executor=slurm is not possible: a search waits for its trials. Allowed: local, debug.")
    executor = checked("executor", LocalExecutor, values["executor"])
    base = replaced(resolve(run_config(values)), {"evaluation.split": "validation"})
    if config.metric not in (measured := tunable(base)):
        raise unknown("search.metric", config.metric, measured)
    for parameter in config.parameters:  # refuses bounds that no run can have
        replaced(base, {parameter.path: parameter.low})
        replaced(base, {parameter.path: parameter.high})
    runs_dir = writable_folder(checked("runs_dir", str, values["runs_dir"]), "runs_dir", needs_links=True)
    writable_folder(base.data.cache_dir, "data.cache_dir")

    study = open_study(config, base, runs_dir)
    while pending := ask(study, config, executor.num_workers([base])):
        cells = [
            Cell(arm=f"trial {trial.number}", seed=base.seed, config=replaced(base, trial.params)) for trial in pending
        ]
        plan = Plan("search", cells, runs_dir)
        plan.prepare_data()
        executor.complete(plan, plan.remaining(repair=True), console)
        for trial, cell in zip(pending, cells, strict=True):
            tell(study, trial, plan.runs[cell.name], config.metric)
    status = print_trials(study, config, base)
    console.print(f"drawn in {draw_trials(study, config, runs_dir / FOLDER)}", soft_wrap=True)
    return status


def tunable(base: RunConfig) -> list[str]:
    """Return the metrics that a search may choose by: those of the run on held-out pairs.

    Other tasks of probes, such as the digits and labelled sets, have one set of test images, which reports read.
    """
    absent = not_applicable(objective(base.objective.name), base)
    tasks = [task for task in (*TASKS, *set_names(base)) if task not in SCENE_TASKS]
    tested = {f"{kind}_{task}" for kind in ("probe", "knn") for task in tasks}
    return [name for name in metric_names(base) if name not in absent and name not in tested]


def open_study(config: SearchConfig, base: RunConfig, runs_dir: Path) -> optuna.Study:
    """Open the journal of the search with this recipe and these parameters, whatever the number of trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = [parameter.__dict__ for parameter in config.parameters]
    searched = json.dumps([identity(base), space, config.metric, config.direction], sort_keys=True)
    name = hashlib.sha256(searched.encode()).hexdigest()[:12]
    path = runs_dir / FOLDER / f"{name}.journal"
    path.parent.mkdir(exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(path)))
    study = optuna.create_study(study_name=name, storage=storage, direction=config.direction, load_if_exists=True)
    # Each process restarts the sampler; another seed keeps it from requesting the same values again.
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
    return study


def ask(study: optuna.Study, config: SearchConfig, num_workers: int) -> list[FrozenTrial]:
    """Return the next trials, one per worker: unfinished ones of an earlier call, then new ones."""
    distributions: dict[str, BaseDistribution] = {p.path: p.distribution() for p in config.parameters}
    trials = study.get_trials(deepcopy=False)
    num_new = min(num_workers - sum(trial.state == TrialState.RUNNING for trial in trials), config.trials - len(trials))
    for _ in range(num_new):
        study.ask(distributions)
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def tell(study: optuna.Study, trial: FrozenTrial, run: RunFolder, metric: str) -> None:
    """Report the run's metric to Optuna, or that the run failed."""
    if not run.is_done:
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    else:
        study.tell(trial.number, run.result()["metrics"][metric]["value"], skip_if_finished=True)


def print_trials(study: optuna.Study, config: SearchConfig, base: RunConfig) -> int:
    """Print all trials, best first, and the best one as overrides and as ratios. Return the exit status."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    done.sort(key=lambda trial: trial.values[0], reverse=config.direction == "maximize")
    table = Table("trial", *(parameter.path for parameter in config.parameters), config.metric)
    for trial in done:
        found = [f"{trial.params[parameter.path]:.3g}" for parameter in config.parameters]
        table.add_row(str(trial.number), *found, f"{trial.values[0]:.4f}")
    console.print(table)
    num_failed = len(study.get_trials(deepcopy=False, states=(TrialState.FAIL,)))
    if done:
        overrides = " ".join(f"{path}={value!r}" for path, value in done[0].params.items())
        console.print(f"best of {len(done)}: {overrides}", soft_wrap=True)
        ratios = (
            f"{path} x {value / own:.3g}" for path, value in done[0].params.items() if (own := value_at(base, path))
        )
        console.print(f"relative to the base run: {', '.join(ratios)}", soft_wrap=True)
    if num_failed:
        console.print(f"failed trials: {num_failed}; python sweeps/manage.py logs RUN shows why", style="red")
    return 1 if num_failed else 0


def draw_trials(study: optuna.Study, config: SearchConfig, folder: Path) -> Path:
    """Draw all trials beside the journal, as SVG and PDF with their data, and return the path of the SVG."""
    import pandas as pd  # slow, and only the end of a search needs these

    from analysis.figures.searches import parallel_coordinates
    from analysis.figures.style import save, style

    rows = [
        {"trial": trial.number, **trial.params, config.metric: trial.values[0] if trial.values else math.nan}
        for trial in study.get_trials(deepcopy=False)
    ]
    with style():
        drawn = parallel_coordinates(
            pd.DataFrame(rows), {one.path: one.log for one in config.parameters}, config.metric
        )
    save(*drawn, folder, study.study_name)
    return folder / f"{study.study_name}.svg"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
