"""python sweeps/manage.py status: look at sweeps and see to them, from any host that sees the runs' folder."""

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from ablations.catalogue import STUDIES
from ablations.request import Request, read_request, requested_names
from aimv2.cli import guarded
from aimv2.config.arguments import HELP, key_values
from aimv2.errors import Cause, UsageError, unknown
from aimv2.runs.failure import read_failure
from aimv2.runs.files import share
from aimv2.runs.interrupt import Interrupts
from aimv2.runs.lease import holder, is_held
from aimv2.runs.record import RunFolder
from sweeps.active_launches import active_launches, cancel
from sweeps.executors.slurm_queue import end_abandoned, withdraw
from sweeps.prune import prune
from sweeps.status.board import duration
from sweeps.status.status import RunStatus, SweepStatus, sweep_status

USAGE = """usage: python sweeps/manage.py COMMAND [NAME] [key=value ...]

  status [SWEEP]               where sweeps stand: progress, time left, loss against siblings, stragglers, waiting
                               reasons, failures by cause; --watch looks again and again, --json prints all of it
  logs RUN                     what became of a run: its attempts, the end of its metrics and log, its traceback
  retry SWEEP                  failed runs once more, with their causes and what to change; executor.minutes=60 and the
                               like say it anew, here and for extend
  cancel SWEEP                 hand back what is under way and start no more; asks first, unless --yes
  extend SWEEP seeds=8         the last launch again with more seeds, which include those that it had; samples=40960
                               makes new runs of every arm and seed, since a run is named by what it computes
  replay RUN                   do a finished run again and compare it with its record, step by step
  prune                        delete checkpoints that nobody will go on from and, when no launch is at work, copies
                               of the code that no checkpoint is of and no launch took for a day, and workers' logs
                               older than a week; results stay

  runs_dir=runs                where runs are kept
  debug=true                   show the traceback of an error

SWEEP is a study's name as in runs/studies/, RUN a run's name or the beginning of it.
"""

# What usually helps, by the cause of a failure.
ADVICE: dict[Cause, str] = {
    "out of memory": "a smaller budget.batch_size, or fewer executor.workers at once",
    "not finite": "a lower optimizer.peak_lr or a longer optimizer.warmup_fraction; then it is another run",
    "node": "look at the disk and the host (logs RUN), then retry as it is",
    "time": "nothing: it goes on from its checkpoint",
    "data": "mend or delete the file that the message names",
    "bug": "read the traceback (logs RUN); with the same code it will fail again",
}
SHOWN_RUNNING = 20
SHOWN_ROWS = 5
SHOWN_LINES = 20
WATCH_SECONDS = 2.0
STATE_STYLES = {"done": "green", "running": "cyan", "failed": "red", "waiting": "dim"}

console = Console(highlight=False)


@dataclass(frozen=True)
class Asked:
    """A command line, taken apart."""

    names: list[str]
    flags: frozenset[str]
    values: dict[str, str]
    executor: list[str]

    @property
    def runs_dir(self) -> Path:
        return Path(self.values.get("runs_dir", "runs"))

    def name(self, what: str) -> str:
        """The one name that a command needs."""
        if len(self.names) != 1:
            raise UsageError(f"which {what}? Say one. {self._there()}")
        return self.names[0]

    def _there(self) -> str:
        return f"Launched into {str(self.runs_dir)!r}: {', '.join(requested_names(self.runs_dir)) or 'none'}."


def main(arguments: Sequence[str]) -> int:
    """Run a command.

    The exit status is 0 when it did what was asked, 2 when that cannot be, 130 when it was interrupted. 1 is for
    ``retry`` and ``extend`` when runs failed (again), and for ``replay`` when it differs from the record; ``status``
    and ``logs`` say what failed and give 0, for they have looked as they were asked to.
    """
    if not arguments or HELP & set(arguments):
        print(USAGE, end="")
        return 0 if arguments else 2
    with Interrupts().listening():
        return guarded(manage, arguments)


def manage(arguments: Sequence[str]) -> int:
    command = arguments[0] if arguments else ""
    if command not in COMMANDS:
        raise unknown("command", command, COMMANDS)
    run, flags, keys = COMMANDS[command]
    rest = arguments[1:]
    words = [one for one in rest if "=" in one]
    executor = [word for word in words if EXECUTOR in keys and _is_executor(word)]
    typed = [word for word in words if word not in executor]
    values = key_values(typed, {"runs_dir", *keys}, f"key of {command}")
    given = frozenset(one for one in rest if one.startswith("-"))
    if wrong := sorted(given - flags):
        raise unknown(f"flag of {command}", wrong[0], flags)
    names = [one for one in rest if "=" not in one and not one.startswith("-")]
    asked = Asked(names, given, values, executor)
    if not asked.runs_dir.is_dir():
        raise UsageError(f"runs_dir={str(asked.runs_dir)!r} is no folder; nothing was launched there")
    share(asked.runs_dir)
    return run(asked)


def status_command(asked: Asked) -> int:
    def look() -> list[SweepStatus]:
        names = asked.names or requested_names(asked.runs_dir)
        return [sweep_status(read_request(asked.runs_dir, name, STUDIES), asked.runs_dir) for name in names]

    found = look()
    if "--json" in asked.flags:
        print(json.dumps([dataclasses.asdict(sweep) for sweep in found], indent=1))
    elif "--watch" in asked.flags:
        with Live(_shown(found), console=console) as live:
            while any(sweep.num_launches for sweep in found):
                time.sleep(WATCH_SECONDS)
                found = look()
                live.update(_shown(found))
    else:
        console.print(_shown(found))
    return 0


def logs_command(asked: Asked) -> int:
    run = _run(asked)
    console.print(f"{run.path}: {run.state()}", soft_wrap=True)
    for attempt in sorted((run.path / "attempts").glob("[0-9]*")):
        who = holder(attempt)
        where = f"{str(who.get('host', 'unknown host')).partition('/')[0]}, process {who.get('pid', 'unknown')}"
        console.print(f"attempt {attempt.name}: {where}, {_ending(attempt)}", soft_wrap=True)
        log = Path(who.get("log") or "")
        if log.is_file():
            console.print(f"log {log}:", soft_wrap=True)
            for line in log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]:
                console.print(f"  {line}", markup=False, soft_wrap=True)
    for row in run.rows()[-SHOWN_ROWS:]:
        console.print(json.dumps(row), markup=False, soft_wrap=True)
    failed = sorted((run.path / "attempts").glob("*/failure.json"))
    if failed and not run.is_done:
        console.print(read_failure(failed[-1].parent).traceback, markup=False, soft_wrap=True)
    return 0


def retry_command(asked: Asked) -> int:
    name = asked.name("sweep")
    request = read_request(asked.runs_dir, name, STUDIES)
    failed = [run for run in sweep_status(request, asked.runs_dir).runs if run.state == "failed"]
    if not failed:
        console.print(f"no run of {name} has failed")
        return 0
    console.print(_failures(failed))

    from sweeps.launch import carry_out

    return carry_out(_again(asked, request, {}), only={run.run for run in failed})


def cancel_command(asked: Asked) -> int:
    name = asked.name("sweep")
    end_abandoned(asked.runs_dir)
    request, at_work = read_request(asked.runs_dir, name, STUDIES), active_launches(asked.runs_dir)
    ours = [active for active in at_work if active.study == name]
    if not ours:
        console.print(f"no launch of {name} is at work")
        return 0
    others = frozenset().union(*(active.runs for active in at_work if active.study != name))
    wanted = frozenset().union(*(active.runs for active in ours)) - others
    found = sweep_status(request, asked.runs_dir)
    stopped = [run.run for run in found.runs if run.state != "done" and run.run in wanted]
    running = sum(run.state == "running" and run.run in stopped for run in found.runs)
    shared = sum(run.state == "running" and run.run in others for run in found.runs)
    what = f"{running} runs are handed back with a checkpoint, {found.count('waiting')} are not started"
    stay = f"; {shared} under way are wanted by another sweep and stay" if shared else ""
    console.print(f"{name}: {what}{stay}", soft_wrap=True)
    if "--yes" not in asked.flags and not _agreed("cancel?"):
        console.print("nothing was cancelled")
        return 0
    for active in ours:
        cancel(active, wanted)
        if stays := withdraw(active):
            console.print(f"in the queue stay {stays}", soft_wrap=True)
    console.print("cancelled; workers stop within seconds, and the same launch goes on from there")
    return 0


def extend_command(asked: Asked) -> int:
    request = read_request(asked.runs_dir, asked.name("sweep"), STUDIES)
    keys = {"seeds": "sweep.seeds", "samples": "budget.samples"}
    more = {keys[key]: value for key, value in asked.values.items() if key in keys}
    if not more:
        raise UsageError("extend by what? Say seeds=8 or samples=40960.")

    from sweeps.launch import carry_out
    from sweeps.parse import parse

    again = _again(asked, request, more)
    if "samples" in asked.values:
        console.print("samples= makes new runs; those that there are stay, and are not in this sweep's report any more")
    had, has = ({cell.seed for cell in one.cells} for one in (request, parse(again).request))
    if lost := sorted(had - has):
        raise UsageError(
            f"extend {request.folder} seeds={asked.values.get('seeds', len(has))} would leave out what there is:"
            f" seed{'s' * (len(lost) > 1)} {', '.join(map(str, lost))} of {', '.join(map(str, sorted(had)))}"
        )
    return carry_out(again)


def replay_command(asked: Asked) -> int:
    from sweeps.replay import replay

    run = _run(asked)
    if not run.is_done:
        raise UsageError(f"run {run.name} is not done yet; there is nothing to compare with")
    console.print(f"doing {run.name} again, in a folder that is deleted afterwards", soft_wrap=True)
    found = replay(run)
    for line in found.lines:
        console.print(line, soft_wrap=True, markup=False)
    return 0 if found.is_equal else 1


def prune_command(asked: Asked) -> int:
    end_abandoned(asked.runs_dir)
    freed = prune(asked.runs_dir)
    parts = {"checkpoints": freed.checkpoints, "code": freed.code, "logs": freed.logs}
    listed = ", ".join(f"{size / 1e6:,.1f} MB of {what}" for what, size in parts.items())
    console.print(f"{listed} deleted; results are untouched")
    return 0


EXECUTOR = "executor.*"  # any of an executor's keys, or another executor

# Of each command: what does it, the flags and the keys that it takes beside runs_dir.
COMMANDS: dict[str, tuple[Callable[[Asked], int], set[str], set[str]]] = {
    "status": (status_command, {"--json", "--watch"}, set()),
    "logs": (logs_command, set(), set()),
    "retry": (retry_command, set(), {EXECUTOR}),
    "cancel": (cancel_command, {"--yes"}, set()),
    "extend": (extend_command, set(), {"seeds", "samples", EXECUTOR}),
    "replay": (replay_command, set(), set()),
    "prune": (prune_command, set(), set()),
}


def _again(asked: Asked, request: Request, more: dict[str, str]) -> list[str]:
    """The arguments of a launch, with some of them said anew, into this runs' folder."""
    anew = [f"runs_dir={asked.runs_dir}", *(f"{key}={value}" for key, value in more.items()), *asked.executor]
    dropped = {word.partition("=")[0] for word in anew} | {"dry_run", "debug"}
    kept = [word for word in request.arguments if word.partition("=")[0] not in dropped]
    if "executor" in dropped:  # another one, which has not the old one's keys
        kept = [word for word in kept if not _is_executor(word)]
    return kept + anew


def _is_executor(word: str) -> bool:
    return word.partition("=")[0].split(".")[0] == "executor"


def _run(asked: Asked) -> RunFolder:
    """The run of this name, or the only one whose name begins so."""
    name = Path(asked.name("run")).name
    found = sorted(path.name for path in asked.runs_dir.glob("v*-*") if path.name.startswith(name))
    if not found and any(
        cell.name.startswith(name)
        for sweep in requested_names(asked.runs_dir)
        for cell in read_request(asked.runs_dir, sweep, STUDIES).cells
    ):
        raise UsageError(f"no worker has begun {name} yet; status says what it waits for")
    if len(found) != 1:
        raise UsageError(f"{len(found)} runs in {str(asked.runs_dir)!r} begin with {name!r}; one is needed")
    return RunFolder(asked.runs_dir, found[0])


def _ending(attempt: Path) -> str:
    if (attempt / "failure.json").exists():
        failure = read_failure(attempt)
        return f"failed, {failure.cause}: {failure.message}"
    if (attempt / "result.json").exists():
        return "finished"
    if (attempt / "interrupted").exists():
        return "was asked to stop"
    return "at work" if is_held(attempt) else "ended without a word"


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(f"{question} There is no terminal to ask; say --yes")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _shown(sweeps: list[SweepStatus]) -> RenderableType:
    if not sweeps:
        return Text("nothing was launched into this folder yet")
    return Group(*(part for sweep in sweeps for part in _sweep_parts(sweep)))


def _sweep_parts(sweep: SweepStatus) -> list[RenderableType]:
    left = sweep.seconds_left
    at_work = f"{sweep.num_launches} launch{'es' * (sweep.num_launches != 1)} at work"
    time_left = f", about {duration(left)} of training left" if left is not None else ""
    parts: list[RenderableType] = [
        Text.from_markup(f"[bold]{sweep.name}[/bold]: {escape(sweep.question)}"),
        Text(f"{len(sweep.runs)} runs, {at_work}{time_left}"),
        *map(Text, sweep.queue),
        _arms(sweep),
    ]
    running = [run for run in sweep.runs if run.state == "running"]
    if running:
        parts.append(_running(running))
    failed = [run for run in sweep.runs if run.state == "failed"]
    if failed:
        parts.append(_failures(failed))
    waiting: dict[str, list[str]] = {}
    for run in sweep.runs:
        if run.state == "waiting":
            waiting.setdefault(run.note, []).append(f"{run.arm}, {run.seed}")
    for note, who in sorted(waiting.items()):
        parts.append(Text(f"waiting, {who[0] if len(who) == 1 else f'{len(who)} runs'}: {note}"))
    if sweep.report:
        parts.append(Text(f"report: {sweep.report}"))
    return [*parts, Text("")]


def _arms(sweep: SweepStatus) -> Table:
    states = ("done", "running", "failed", "waiting")
    table = Table("arm", *(Column(state, justify="right") for state in (*states, "samples")), box=SIMPLE_HEAD)
    for arm in dict.fromkeys(run.arm for run in sweep.runs):
        runs = [run for run in sweep.runs if run.arm == arm]
        counts = {state: sum(run.state == state for run in runs) for state in states}
        shown = [f"[{STATE_STYLES[state]}]{count}[/]" if count else "" for state, count in counts.items()]
        trained, budget = sum(run.samples for run in runs), sum(run.budget for run in runs)
        table.add_row(arm, *shown, f"{trained / budget:.0%}" if budget else "")
    return table


def _running(running: list[RunStatus]) -> Group:
    numbers = ("done", "images/s", "left", "loss", "± seeds")
    columns = [Column(name, justify="right", no_wrap=True) for name in numbers]
    named = [Column(name, no_wrap=True) for name in ("running", "run")]
    table = Table(*named, *columns, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for run in running[:SHOWN_RUNNING]:
        table.add_row(
            f"{run.arm}, {run.seed}",
            run.run,
            f"{run.samples / run.budget:.0%}" if run.budget else "",
            f"{run.images_per_second:.0f}" if run.images_per_second else "",
            duration(run.seconds_left) if run.seconds_left is not None else "",
            f"{run.loss:.3f}" if run.loss is not None else "",
            f"{run.loss_against_siblings:+.3f}" if run.loss_against_siblings is not None else "",
        )
    more = [Text(f"and {len(running) - SHOWN_RUNNING} more")] if len(running) > SHOWN_RUNNING else []
    notes = [
        Text(f"{run.arm}, {run.seed} on {run.host or 'an unknown host'}: {run.note}")
        for run in running[:SHOWN_RUNNING]
        if run.note
    ]
    return Group(table, *more, *notes)


def _failures(failed: list[RunStatus]) -> Table:
    table = Table("failed", "runs", "the first says", "what helps", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for cause in dict.fromkeys(run.cause for run in failed):
        runs = [run for run in failed if run.cause == cause]
        advice = ADVICE.get(cause, "") if cause else ""
        first = f"{runs[0].arm}, seed {runs[0].seed} ({runs[0].run}): {runs[0].note}"
        table.add_row(cause, str(len(runs)), escape(first), advice)
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
