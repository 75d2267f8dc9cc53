"""python sweeps/launch.py sweep=prefix_ratio: execute the runs of a study, each once, and write its report."""

import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

if __name__ == "__main__":  # typed as a path: the packages beside it are meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while packages load ends it without a traceback

from rich.console import Console

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.request import Request, write_request
from aimv2.base.files import share, writable_folder
from aimv2.base.interrupt import Interrupts
from aimv2.base.processes import imports_from
from aimv2.config.arguments import HELP, guarded, script_of
from aimv2.run.pricing.price import check_limits, price
from aimv2.run.reuse import Training
from aimv2.runs.provenance import PACKAGE
from aimv2.sweeps.active_launches import active_launches, new_logs
from aimv2.sweeps.executors.registry import EXECUTORS, end_abandoned, queue_of
from aimv2.sweeps.finish import finish
from aimv2.sweeps.freeze import CODE, become_code, freeze
from aimv2.sweeps.parse import LaunchRequest, parse
from aimv2.sweeps.plan import Plan
from aimv2.sweeps.plan_display import Planned, PlannedSweep, PlannedTogether, report_note
from aimv2.sweeps.probe import probe
from aimv2.sweeps.status.board import Board
from aimv2.sweeps.tasks import Work

USAGE = """usage: python sweeps/launch.py sweep=NAME [key=value ...]

Execute the runs of a study and write its report. A run is named by its config and executed once. Launch again, here or
on another machine, to execute the runs that are missing.

sweeps:
{sweeps}

  sweep.arms=[a,b]             run only these arms
  sweep.seeds=5                seeds 0 to 4, or a list of seeds
  sweep.equal=flops            equal training FLOPs in all arms; the default is equal samples
  sweep.controls=[]            leave out the null control and the positive control
  sweep.baseline= sweep.primary_metric= sweep.equivalence_margin= sweep.question= sweep.source=
                               other values of the study
  sweep.suffix=mine            ends the name of the report, so that the study on another base run has one of its own
  sweep.expected.ARM=better    expectation for the arm in the primary metric: better, worse, equal or null
  sweep.allow_mixed_code=true  draw verdicts even if the runs are of different code
  sweep.claims.CLAIM=[]        leave out a claim of the paper, or list its expectations
  scale=demo                   scale of the base run
  start.weights=runs/NAME      start from a finished run, whose config is that of the base run (docs/post-training.md)
  recipe=NAME                  post-training that starts there
  mixture=paper|public         weights and shares of dense captions of the paper's three sources
  data.sources=[A.yaml,B.yaml] sources of your own; studies of mixtures take their arms from them
  evaluation.sets=[FILE.yaml]  labelled sets of your own; the first decides where probe_object does not exist
  budget.samples=4096          any other value of the base run, by its path
  search=optuna                search the space of the study's factors, then confirm the winner (docs/search.md);
                               search.trials=24, sampler=, sampler_args.KEY=, pruner=, pruner_args.KEY=, metrics=[…],
                               seed=
  limit=2h                     refuse a plan that costs more, in time (s, min, h, d), FLOPs (FLOPs to EFLOPs), disk
                               space (MB to TB), or money in the currency of rates= (500EUR)
  rates=FILE.yaml              prices of hardware by the hour, for the plan and the bill in the report (docs/cost.md)
  probe=true                   first train a few steps of each shape by workers of the executor, which takes minutes;
                               the price is then that of the machines where they run
  executor={executors}
                               where workers run: processes here, this process, or a cluster (docs/cluster.md)
  executor.workers=4           number of workers
  executor.minutes=60          time limit of a worker; another worker then resumes its run from the checkpoint
  executor.runs_per_gpu=auto   workers that share a GPU: a number, or as many as its memory holds by prediction
  plugins=[FILE.py,FOLDER]     code of your own, such as a study, a prefix-length distribution, a metric or an executor
                               (docs/extend.md); retry, extend and reports find it in the code snapshot
  code=DIGEST                  launch with the code of this digest: that of a snapshot in runs/code, made by a launch
  detach=true                  return once the launch continues in the background, where a closed terminal cannot end it
  sensitivity=auto             first measure what the metrics of the study's claims see on this base run, if that is not
                               known: both are one launch, with one price
  dry_run=true                 only print the plan and its price
  price=false                  do not time steps for dry_run= or limit=; times that were measured before are used
  runs_dir=runs                folder of the runs
  reports_dir=reports          folder of the reports
  debug=true                   show the traceback of an error

Arms and their levels are defined in ablations/studies/NAME.py, and all keys of an executor in sweeps/executors/.
"""

EXTENDED = {"seeds": "sweep.seeds", "samples": "budget.samples"}  # keys of manage.py extend, and those that they set

OF_ONE_LAUNCH = (
    "dry_run",
    "price",
    "probe",
    "debug",
    "detach",
)  # keys that a launch of the same request does not repeat

DETACH_POLL_SECONDS = 0.2

console = Console(highlight=False)


def main(arguments: Sequence[str]) -> int:
    """Launch a sweep.

    Returns:
        The exit status: 0 if every run is done or submitted, 1 if a run failed, 2 if the request was refused, 130 if it
        was interrupted. Of a search it is 1 too if it has fewer trials than requested, because too many failed, or no
        winner; a failed trial that another one has replaced does not count.
    """

    def launch_by_code(words: Sequence[str]) -> int:
        if not words or HELP & set(words):
            sweeps = "\n".join(f"  {study.slug}\n    {study.question}" for study in STUDIES.values())
            print(USAGE.format(sweeps=sweeps, executors="|".join(EXECUTORS)), end="")
            return 0 if words else 2
        become_code(arguments)  # with code=, unless that is this code: it does not return
        return launch([word for word in words if not word.startswith(CODE)])

    with Interrupts().listening():
        return guarded(launch_by_code, arguments)


def script() -> int:
    return script_of(main)


def launch(
    arguments: Sequence[str],
    *,
    only: Collection[str] | None = None,
    measured: Mapping[str, Training] | None = None,
) -> int:
    """Print the plan, check its price, execute the runs and write the reports; return the exit status.

    Args:
        only: names of the runs to execute; None is all that are missing. The exit status is about these, and of a
            search about all of its trials.
        measured: as in ``PlannedSweep``.
    """
    parsed = parse(arguments)
    plan, executor = parsed.plan, parsed.executor
    for note in filter(None, [report_note(parsed.request, parsed.reports_dir), parsed.note]):
        Console(stderr=True).print(f"note: {note}", highlight=False, soft_wrap=True, markup=False)
    if not parsed.options.dry_run:
        share(plan.runs_dir)
        writable_folder(str(plan.runs_dir), "runs_dir", needs_links=True)
        writable_folder(str(parsed.reports_dir), "reports_dir")
        writable_folder(str(plan.cells[0].config.cache_dir), "data.cache_dir")
    planned = _planned(parsed, only, measured)
    work = planned.work
    if parsed.options.probe:
        probe(parsed.clock, work.priced, executor, console)
    if work.tasks and not parsed.options.dry_run:
        freeze(plan.runs_dir)  # before anything that takes time, since the source may be edited from now on
    planned.show(console, executor, parsed.clock, parsed.rates)
    if note := parsed.request.baseline.plan_note:
        console.print(note, soft_wrap=True, markup=False)
    if work.tasks and parsed.limits:
        num_workers = min(executor.num_workers(work.configs), len(work.configs))
        check_limits(parsed.limits, price(work.priced, parsed.clock, parsed.rates), num_workers)
    if parsed.options.dry_run:
        if work.tasks and (untested := executor.test(work.configs, plan.runs_dir)):
            console.print(untested, soft_wrap=True)
        return 0
    if work.tasks and parsed.options.detach:
        return detach(arguments, plan)
    return execute(parsed, work)


def _planned(parsed: LaunchRequest, only: Collection[str] | None, measured: Mapping[str, Training] | None) -> Planned:
    runs_dir, is_dry_run = parsed.plan.runs_dir, parsed.options.dry_run

    def sweep_of(request: Request) -> PlannedSweep:
        plan = Plan(request.folder, request.cells, runs_dir)
        return PlannedSweep(request.study, plan, only, is_dry_run=is_dry_run, measured=measured)

    own: Planned = sweep_of(parsed.request)
    if parsed.search is not None:
        from aimv2.sweeps.search.planned import PlannedSearch  # here, since Optuna takes a second to load

        own = PlannedSearch(parsed.search, parsed.request, runs_dir, is_dry_run=is_dry_run)
    return own if parsed.sensitivity is None else PlannedTogether(sweep_of(parsed.sensitivity), own)


def execute(parsed: LaunchRequest, work: Work) -> int:
    """Execute the work and finish the launch; return the exit status."""
    plan = parsed.plan
    if not work.tasks:
        for request in plan.requests:
            write_request(plan.runs_dir, request)
    else:
        end_abandoned(plan.runs_dir)
        board = Board(plan, console, queue_of, trials=lambda: work.trials(plan.runs_dir))
        if not parsed.executor.launch(plan, work, parsed.reports_dir, board):
            where = "" if plan.runs_dir == Path("runs") else f" runs_dir={plan.runs_dir}"
            console.print(
                f"`python sweeps/manage.py status{where}` shows their progress, and `cancel {plan.title}` ends them",
                soft_wrap=True,
            )
            return 0
    return 0 if finish(plan, work, parsed.reports_dir, console) else 1


def detach(arguments: Sequence[str], plan: Plan) -> int:
    """Start the same launch in a session of its own, without a terminal; print how to watch and end it.

    Returns:
        0 as soon as the launch is registered, or its exit status if it fails before.
    """
    words = [argument for argument in arguments if not argument.startswith("detach=")]
    before = {one.folder for one in active_launches(plan.runs_dir)}
    log = new_logs(plan.runs_dir, uuid.uuid4().hex[:12]) / "launch.log"
    command = [sys.executable, "-m", "aimv2.sweeps.launch", *words]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=os.environ | imports_from(PACKAGE.parent),
        )
    console.print(f"process {process.pid} continues in the background; its log is {log}", soft_wrap=True, markup=False)
    while process.poll() is None and all(one.folder in before for one in active_launches(plan.runs_dir)):
        time.sleep(DETACH_POLL_SECONDS)  # until it can be cancelled
    if process.poll():
        console.print(log.read_text(), soft_wrap=True, markup=False)
        return process.returncode
    for name in ("status", "cancel"):
        typed = ["python", str(Path(__file__).with_name("manage.py")), name, plan.title, f"runs_dir={plan.runs_dir}"]
        console.print(shlex.join(typed), soft_wrap=True, markup=False)
    return 0


def relaunch(request: Request, typed: Mapping[str, str]) -> list[str]:
    """Return the arguments of a request with the values that were typed for ``manage.py retry`` or ``extend``."""
    new = {EXTENDED.get(key, key): value for key, value in typed.items()}
    left_out = {*new, *OF_ONE_LAUNCH, "plugins"}  # plug-ins are those of this process
    kept = [word for word in request.arguments if word.partition("=")[0] not in left_out]
    if "executor" in new:  # another executor does not have the keys of the old one
        kept = [word for word in kept if not word.startswith(("executor=", "executor."))]
    return kept + [f"{key}={value}" for key, value in new.items()]


if __name__ == "__main__":
    sys.exit(script())
