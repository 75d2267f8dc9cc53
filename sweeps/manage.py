"""python sweeps/manage.py status: inspect and manage sweeps, from any host that sees the runs folder."""

import dataclasses
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # typed as a path: the packages beside it are meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table

from ablations.catalogue import STUDIES
from ablations.request import Request, read_request, read_requests, requested_names, union
from aimv2.cli import guarded
from aimv2.config.arguments import HELP, checked, key_values
from aimv2.errors import UsageError, unknown
from aimv2.runs.failure import read_failure
from aimv2.runs.files import share, user
from aimv2.runs.interrupt import Interrupts
from aimv2.runs.lease import holder, is_held
from aimv2.runs.record import RunFolder
from sweeps.active_launches import ActiveLaunch, active_launches, cancel
from sweeps.executors.slurm_queue import abandoned, end_abandoned, withdraw
from sweeps.prune import Pruner
from sweeps.replay import replay
from sweeps.status.board import pause, reasons, rendered
from sweeps.status.runs import RunReader
from sweeps.status.status import SweepStatus, sweep_status

USAGE = """usage: python sweeps/manage.py COMMAND [NAME] [key=value ...]

  status [SWEEP]               show progress, time left, loss against other seeds, stragglers, failures by cause, and
                               why runs wait; --watch refreshes, --json prints everything
  logs RUN                     show a run's attempts, the end of its metrics and log, and its traceback
  retry SWEEP                  execute failed runs of your launches again, after listing their causes with advice; after
                               a failure out of memory, with half of executor.runs_per_gpu. Executor keys, such as
                               executor.minutes=90, can be overridden, here and in extend
  cancel SWEEP                 list the active launches; release the runs of yours and start no others. launch=ID takes
                               this launch, and all=true everybody's
  extend SWEEP seeds=8         repeat your last launch with other seeds, or with samples=40960, which makes new runs for
                               every arm and seed, since a run is named by its config
  replay RUN                   execute a finished run again and compare it with its record, step by step
  prune                        list and delete checkpoints that are no longer needed and, if no launch is active, code
                               snapshots that are a day old and have no checkpoint, and workers' logs that are a week
                               old; results and other people's files stay. dry_run=true only lists

  yes=true                     (cancel, prune) do not ask for confirmation
  runs_dir=runs                the runs folder
  debug=true                   show the traceback of an error

SWEEP is a name in runs/studies/; RUN is a run's name or the beginning of it.
"""

SHOWN_ROWS = 5
SHOWN_LINES = 20
SHOWN_PATHS = 10

console = Console(highlight=False)


@dataclass(frozen=True)
class Arguments:
    """A command line: names, flags, and values by key."""

    names: list[str]
    flags: set[str]
    values: dict[str, str]

    @property
    def runs_dir(self) -> Path:
        return Path(self.values.get("runs_dir", "runs"))

    def is_true(self, key: str) -> bool:
        value: bool = checked(key, bool, self.values.get(key, False))
        return value

    def name(self, what: str) -> str:
        """Return the one name that a command needs."""
        if len(self.names) != 1:
            launched = ", ".join(requested_names(self.runs_dir)) or "none"
            raise UsageError(f"which {what}? Name one. Launched into {str(self.runs_dir)!r}: {launched}.")
        return self.names[0]


def main(arguments: Sequence[str]) -> int:
    """Run a command.

    Returns:
        0 on success, 1 if runs failed in ``retry`` or ``extend`` or a replay differs from the record, 2 if the command
        is refused, 130 if interrupted. ``status`` and ``logs`` return 0 whether runs have failed or not.
    """
    if not arguments or HELP & set(arguments):
        print(USAGE, end="")
        return 0 if arguments else 2
    with Interrupts().listening():
        return guarded(manage, arguments)


def manage(typed: Sequence[str]) -> int:
    """Check the names, flags and keys that were typed, and run the command."""
    command, *words = typed or [""]
    if command not in COMMANDS:
        raise unknown("command", command, COMMANDS)
    run, allowed_flags, keys = COMMANDS[command]
    pairs = [word for word in words if "=" in word]
    flags = {word for word in words if "=" not in word and word.startswith("-")}
    allowed = {"runs_dir", *keys, *(_key(word) for word in pairs if EXECUTOR in keys and _is_executor(word))}
    if wrong := sorted(flags - allowed_flags):
        raise unknown(f"flag of {command}", wrong[0], allowed_flags)
    arguments = Arguments(
        names=[word for word in words if "=" not in word and word not in flags],
        flags=flags,
        values=key_values(pairs, allowed, f"key of {command}"),
    )
    if not arguments.runs_dir.is_dir():
        raise UsageError(f"runs_dir={str(arguments.runs_dir)!r} does not exist; nothing was launched there")
    share(arguments.runs_dir)
    return run(arguments)


def status_command(arguments: Arguments) -> int:
    readers: dict[str, RunReader] = defaultdict(RunReader)

    def read() -> list[SweepStatus]:
        names = arguments.names or requested_names(arguments.runs_dir)
        requests = [read_request(arguments.runs_dir, name, STUDIES) for name in names]
        return [sweep_status(request, arguments.runs_dir, readers[request.folder]) for request in requests]

    started = time.monotonic()
    sweeps = read()
    if "--json" in arguments.flags:
        print(json.dumps([dataclasses.asdict(sweep) for sweep in sweeps], indent=1))
    elif "--watch" in arguments.flags:
        with Live(rendered(sweeps), console=console) as live:
            while any(sweep.num_launches for sweep in sweeps):
                time.sleep(pause(time.monotonic() - started))
                started = time.monotonic()
                sweeps = read()
                live.update(rendered(sweeps))
    else:
        console.print(rendered(sweeps))
    return 0


def logs_command(arguments: Arguments) -> int:
    run = _run(arguments)
    console.print(f"{run.path}: {run.state()}", soft_wrap=True)
    for attempt in sorted(run.path.glob("attempts/[0-9]*")):
        owner = holder(attempt)
        where = f"{str(owner.get('host', 'unknown host')).partition('/')[0]}, process {owner.get('pid', 'unknown')}"
        console.print(f"attempt {attempt.name}: {where}, {_ending(attempt)}", soft_wrap=True)
        log = Path(owner.get("log") or "")
        if log.is_file():
            lines = log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]
            console.print(f"log {log}:", *lines, sep="\n  ", markup=False, soft_wrap=True)
    for row in run.rows()[-SHOWN_ROWS:]:
        console.print(json.dumps(row), markup=False, soft_wrap=True)
    failed = sorted(run.path.glob("attempts/*/failure.json"))
    if failed and not run.is_done:
        console.print(read_failure(failed[-1].parent).traceback, markup=False, soft_wrap=True)
    return 0


def retry_command(arguments: Arguments) -> int:
    from sweeps.launch import carry_out  # here, because status loads faster without it

    newest, *older = own_requests(arguments)
    every = union([newest, *older], newest)
    failed = [run for run in sweep_status(every, arguments.runs_dir).runs if run.state == "failed"]
    if not failed:
        console.print(f"no run of your launches of {every.folder} has failed")
        return 0
    console.print(reasons(failed))
    if any(run.cause == "out of memory" for run in failed):
        arguments = fewer_runs_per_gpu(newest, arguments)
    if len(every.cells) > len(newest.cells):
        arms = dict.fromkeys(cell.arm for cell in every.cells if cell.arm in every.study.arms)
        cells = {"sweep.arms": arms, "sweep.seeds": sorted({cell.seed for cell in every.cells})}
        lists = {key: f"[{','.join(map(str, values))}]" for key, values in cells.items()}
        arguments = dataclasses.replace(arguments, values={**arguments.values, **lists})
    return carry_out(relaunch(newest, arguments), only={run.run for run in failed})


def own_requests(arguments: Arguments) -> list[Request]:
    """Return this user's requests of a study, newest first, or the newest of all if this user has none."""
    requests = read_requests(arguments.runs_dir, arguments.name("sweep"), STUDIES)
    if own := [request for request in requests if request.owner == user()]:
        return own
    console.print(f"repeating the launch of {requests[0].owner or 'an unknown user'}, since none is yours")
    return requests[:1]


def fewer_runs_per_gpu(request: Request, arguments: Arguments) -> Arguments:
    """Halve the request's ``executor.runs_per_gpu``, or replace ``auto`` by 1, unless another value is typed."""
    before = {_key(word): word.partition("=")[2] for word in request.arguments}.get(RUNS_PER_GPU, "1")
    if before == "1" or {"executor", RUNS_PER_GPU} & arguments.values.keys():
        return arguments
    fewer = "1" if before == "auto" else str(int(before) // 2)
    console.print(f"{RUNS_PER_GPU}={fewer}, since a run was out of memory with {before}", soft_wrap=True)
    return dataclasses.replace(arguments, values={**arguments.values, RUNS_PER_GPU: fewer})


def cancel_command(arguments: Arguments) -> int:
    name = arguments.name("sweep")
    end_abandoned(arguments.runs_dir)
    active = active_launches(arguments.runs_dir)
    launches = [launch for launch in active if launch.study == name]
    if not launches:
        read_requests(arguments.runs_dir, name, STUDIES)  # refuses an unknown name
        console.print(f"{name} has no active launch")
        return 0
    chosen = chosen_launches(launches, arguments)
    shared = frozenset().union(*(launch.runs for launch in active if launch not in chosen))
    requested = frozenset().union(*(launch.runs for launch in chosen))
    states = {run: RunFolder(arguments.runs_dir, run).state() for run in requested}
    running, waiting = ({run for run in requested if states[run] == state} for state in ("running", "new"))
    counts = {
        "active runs to release": len(running - shared),
        "waiting runs that will not start": len(waiting - shared),
        "runs that continue for another launch": len((running | waiting) & shared),
    }
    console.print(f"{name}: {', '.join(f'{what}: {count}' for what, count in counts.items() if count)}", soft_wrap=True)
    if not _confirmed("cancel?", arguments):
        console.print("nothing was cancelled")
        return 0
    for launch in chosen:
        cancel(launch, requested - shared)
        if left := withdraw(launch):
            console.print(f"still in the queue: {left}", soft_wrap=True)
    console.print("Cancelled; workers stop within seconds. Launch the sweep again to resume.")
    return 0


def chosen_launches(launches: list[ActiveLaunch], arguments: Arguments) -> list[ActiveLaunch]:
    """List the active launches of a study, and return those to cancel: one's own, unless others were typed.

    Raises:
        UsageError: there is none.
    """
    start = arguments.values.get("launch")
    if start is not None:
        chosen = [launch for launch in launches if launch.id.startswith(start)]
    else:
        chosen = [launch for launch in launches if launch.owner == user() or arguments.is_true("all")]
    table = Table("launch", "owner", "host", "since", "runs", "to cancel", box=SIMPLE_HEAD)
    for one in launches:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.started)) if one.started else ""
        table.add_row(one.id, one.owner, one.host, since, str(len(one.runs)), "yes" if one in chosen else "no")
    console.print(table)
    if start is not None and len(chosen) != 1:
        raise UsageError(f"launch={start} names {len(chosen)} of these launches; type the beginning of one id")
    if not chosen:
        raise UsageError("none of these launches is yours; type launch= and its id, or all=true")
    return chosen


def extend_command(arguments: Arguments) -> int:
    from sweeps.launch import carry_out

    if not EXTENDED.keys() & arguments.values:
        raise UsageError("extend by what? Type seeds=8 or samples=40960.")
    request = own_requests(arguments)[0]
    if "samples" in arguments.values:
        console.print("samples= makes new runs; the old ones stay, and leave this sweep's report")
    return carry_out(relaunch(request, arguments))


def relaunch(request: Request, arguments: Arguments) -> list[str]:
    """Return the arguments of a request, with the typed values, as a launch into the same runs folder."""
    new = {EXTENDED.get(key, key): value for key, value in arguments.values.items()}
    new["runs_dir"] = str(arguments.runs_dir)
    kept = [word for word in request.arguments if _key(word) not in {*new, "dry_run", "debug"}]
    if "executor" in new:  # another executor does not have the keys of the old one
        kept = [word for word in kept if not _is_executor(word)]
    return kept + [f"{key}={value}" for key, value in new.items()]


def replay_command(arguments: Arguments) -> int:
    run = _run(arguments)
    if not run.is_done:
        raise UsageError(f"run {run.name} is not done yet; only a finished run can be replayed")
    console.print(f"executing {run.name} again in a temporary folder", soft_wrap=True)
    is_equal, lines = replay(run)
    console.print("\n".join(lines), soft_wrap=True, markup=False)
    return 0 if is_equal else 1


def prune_command(arguments: Arguments) -> int:
    runs_dir, is_dry_run = arguments.runs_dir.resolve(), arguments.is_true("dry_run")
    pruner = Pruner(runs_dir, frozenset(abandoned(runs_dir)))
    pruner.wait(console.print)
    found = pruner.unneeded()
    for kind in dict.fromkeys(one.kind for one in found):
        sizes = {str(one.path.relative_to(runs_dir)): one.size for one in found if one.kind == kind}
        console.print(f"{kind}: {len(sizes)}, {sum(sizes.values()) / 1e6:,.1f} MB")
        console.print(*list(sizes)[:SHOWN_PATHS], sep="\n", markup=False, soft_wrap=True)
        if len(sizes) > SHOWN_PATHS:
            console.print(f"and {len(sizes) - SHOWN_PATHS} more")
    for folder, number in pruner.foreign().items():
        console.print(
            f"left alone in {runs_dir / folder}, since no mark shows that they are ours: {number}", soft_wrap=True
        )
    if not found:
        console.print("nothing to delete")
    if not found or is_dry_run:
        return 0
    if not _confirmed("delete?", arguments):
        console.print("nothing was deleted")
        return 0
    problems = pruner.delete(found)
    for problem in problems:
        console.print(f"not deleted: {problem}", style="red", soft_wrap=True, markup=False)
    console.print("all else is deleted" if problems else "deleted; results are untouched")
    return 1 if problems else 0


RUNS_PER_GPU = "executor.runs_per_gpu"
EXECUTOR = "executor.*"  # any key of the executor, or another executor
EXTENDED = {"seeds": "sweep.seeds", "samples": "budget.samples"}  # keys of extend, and those of a launch that they set

# Each command's function, and the flags and keys that it takes beside runs_dir.
COMMANDS: dict[str, tuple[Callable[[Arguments], int], set[str], set[str]]] = {
    "status": (status_command, {"--json", "--watch"}, set()),
    "logs": (logs_command, set(), set()),
    "retry": (retry_command, set(), {EXECUTOR}),
    "cancel": (cancel_command, set(), {"launch", "all", "yes"}),
    "extend": (extend_command, set(), {*EXTENDED, EXECUTOR}),
    "replay": (replay_command, set(), set()),
    "prune": (prune_command, set(), {"dry_run", "yes"}),
}


def _key(word: str) -> str:
    return word.partition("=")[0]


def _is_executor(word: str) -> bool:
    return _key(word).partition(".")[0] == "executor"


def _run(arguments: Arguments) -> RunFolder:
    """Return the run whose name begins so."""
    name = Path(arguments.name("run")).name
    found = sorted(path.name for path in arguments.runs_dir.glob("v*-*") if path.name.startswith(name))
    if not found and any(
        cell.name.startswith(name)
        for sweep in requested_names(arguments.runs_dir)
        for cell in read_request(arguments.runs_dir, sweep, STUDIES).cells
    ):
        raise UsageError(f"no worker has started {name} yet; manage.py status shows what it waits for")
    if len(found) != 1:
        raise UsageError(f"{len(found)} runs in {str(arguments.runs_dir)!r} begin with {name!r}; name exactly one")
    return RunFolder(arguments.runs_dir, found[0])


def _ending(attempt: Path) -> str:
    if (attempt / "failure.json").exists():
        failure = read_failure(attempt)
        return f"failed, {failure.cause}: {failure.message}"
    if (attempt / "result.json").exists():
        return "finished"
    if (attempt / "interrupted").exists():
        return "interrupted"
    return "running" if is_held(attempt) else "died without a record"


def _confirmed(question: str, arguments: Arguments) -> bool:
    if arguments.is_true("yes"):
        return True
    if not sys.stdin.isatty():
        raise UsageError(f"{question} There is no terminal to answer in; type yes=true to confirm")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
