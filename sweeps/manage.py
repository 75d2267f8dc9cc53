"""python sweeps/manage.py status: inspect and manage sweeps, from any host that sees the runs folder."""

import dataclasses
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # typed as a path: the packages beside it are meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.live import Live

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.request import Request, read_request, read_requests, requested_names, requested_runs
from aimv2.base.errors import UsageError, unknown
from aimv2.base.files import share, user
from aimv2.base.interrupt import Interrupts
from aimv2.config.arguments import HELP, as_typed, checked, guarded, key_values, script_of
from aimv2.runs.lease import is_released
from aimv2.runs.record import RunFolder, named_run
from aimv2.sweeps.active_launches import active_launches, cancel
from aimv2.sweeps.board import pause, print_logs, reasons, rendered
from aimv2.sweeps.executors.base import end_abandoned, queue_of, withdraw
from aimv2.sweeps.plan import Plan
from aimv2.sweeps.progress import SINGLE, Looks, RunReader, SweepStatus, plan_status, single_status, status_looks
from aimv2.sweeps.search.trials import trials_of
from aimv2.sweeps.usage import KEYS, manage_usage

console = Console(highlight=False)


@dataclass(frozen=True)
class Arguments:
    """A command line: names, and values by key, where ``--json`` is a key with the value true."""

    names: list[str]
    values: dict[str, str]

    @property
    def runs_dir(self) -> Path:
        return Path(self.values["runs_dir"])

    def value(self, key: str, default: Any) -> Any:
        """Return the value of a key, of the type of its default."""
        return checked(key, type(default), self.values.get(key, default))


def main(arguments: Sequence[str]) -> int:
    """Run a command; return 0, 1 if runs failed or a replay differs, 2 if it is refused, 130 if interrupted."""
    if not arguments or HELP & set(arguments):
        print(manage_usage(), end="")
        return 0 if arguments else 2
    with Interrupts().listening():
        return guarded(manage, arguments, as_typed("manage"))


def manage(typed: Sequence[str]) -> int:
    """Check the names and keys that were typed, and run the command."""
    command, *words = typed or [""]
    if command not in COMMANDS:
        raise unknown("command", command, COMMANDS)
    (run, named), keys = COMMANDS[command], KEYS[command]
    names = [word for word in words if "=" not in word and not word.startswith("-")]
    pairs = [word if "=" in word else f"{word}=true" for word in words if word not in names]
    starts = tuple(key for key in keys if key.endswith("."))
    allowed = {"runs_dir", *keys, *(word.partition("=")[0] for word in pairs if word.startswith(starts))}
    arguments = Arguments(names, {"runs_dir": "runs"} | key_values(pairs, allowed, f"key of {command}"))
    if not arguments.runs_dir.is_dir() and "records" not in arguments.values:
        raise UsageError(f"runs_dir={str(arguments.runs_dir)!r} does not exist; nothing was launched there")
    if named and len(names) != 1:
        launched = ", ".join(requested_names(arguments.runs_dir)) or "none"
        raise UsageError(f"which {named}? Name one. Launched into {str(arguments.runs_dir)!r}: {launched}.")
    share(arguments.runs_dir)
    return run(arguments)


def status_command(arguments: Arguments) -> int:
    read = partial(_progress, arguments, defaultdict(RunReader))
    started, sweeps = time.monotonic(), read()
    if arguments.value("--json", False):
        print(json.dumps([dataclasses.asdict(sweep) for sweep in sweeps], indent=1))
    elif arguments.value("--watch", False):
        with Live(rendered(sweeps), console=console) as live:
            while any(sweep.is_active for sweep in sweeps):
                time.sleep(pause(time.monotonic() - started))
                started, sweeps = time.monotonic(), read()
                live.update(rendered(sweeps))
    else:
        console.print(rendered(sweeps))
    return 0


def logs_command(arguments: Arguments) -> int:
    print_logs(named_run(arguments.runs_dir, arguments.names[0]), console)
    return 0


def retry_command(arguments: Arguments) -> int:
    from aimv2.sweeps.launch import launch, relaunch  # here, because status loads faster without it

    request = own_request(arguments)
    runs = _status(request, arguments.runs_dir, RunReader(), Looks()).runs
    failed = [run for run in runs if run.state == "failed"]
    if not failed:
        console.print(f"no run of your last launch of {request.folder} has failed")
        if num_waiting := sum(run.state == "waiting" for run in runs):
            console.print(f"runs that are not done: {num_waiting}; launch the sweep again to execute them")
        if num_failed := trials_of(arguments.runs_dir, request.folder).num_failed:
            console.print(f"failed trials: {num_failed}; if the search lacks trials, launch it again")
        return 0
    console.print(reasons(failed))
    return launch(relaunch(request, arguments.values), only={run.run for run in failed})


def extend_command(arguments: Arguments) -> int:
    from aimv2.sweeps.launch import launch, relaunch

    return launch(relaunch(own_request(arguments), arguments.values))


def measure_command(arguments: Arguments) -> int:
    """Launch the last request with another evaluation, on the weights of its finished runs."""
    from aimv2.run.reuse import CURVE, reusable, trained_alike
    from aimv2.sweeps.launch import launch, relaunch
    from aimv2.sweeps.parse import parse

    request, values = own_request(arguments), dict(arguments.values)
    values["runs_dir"] = values.pop("to", values["runs_dir"])
    words = relaunch(request, values)
    parsed = parse(words)
    if parsed.search is not None:
        raise UsageError(
            f"{request.folder} is a search, whose trials cannot be measured again; launch it with that value"
        )
    missing = {name: parsed.plan.cell_of[name].config for name in parsed.plan.remaining()}
    trainings = reusable(missing, arguments.runs_dir)
    if lacking := {name: config for name, config in missing.items() if name not in trainings}:
        num_gone = sum(map(bool, trained_alike(lacking, arguments.runs_dir).values()))
        untrained = f"no finished run has their training, to which {', '.join(CURVE)} belong"
        counts = {"their weights are gone": num_gone, untrained: len(lacking) - num_gone}
        each = "; ".join(f"{reason} ({number})" for reason, number in counts.items() if number)
        text = f"{len(lacking)} of {len(parsed.plan.runs)} runs cannot be measured without training: {each}"
        if not trainings:
            raise UsageError(text)
        console.print(f"note: {text}", soft_wrap=True)
    return launch(words, only=set(trainings), measured=trainings)


def own_request(arguments: Arguments) -> Request:
    """Return this user's last request of a study, or the last of all if this user has none."""
    requests = read_requests(arguments.runs_dir, arguments.names[0], STUDIES)
    if mine := [request for request in requests if request.owner == user()]:
        return mine[0]
    console.print(f"repeating the launch of {requests[0].owner or 'an unknown user'}, since none is yours")
    return requests[0]


def cancel_command(arguments: Arguments) -> int:
    runs_dir, name = arguments.runs_dir, arguments.names[0]
    end_abandoned(runs_dir)
    # A launch whose process died may be among them, which does no harm; no clock decides what can be cancelled.
    every = active_launches(runs_dir, lambda folder: not is_released(folder))
    launches = [launch for launch in every if launch.study == name]
    if not launches:
        read_requests(runs_dir, name, STUDIES)  # refuses an unknown name
        console.print(f"{name} has no active launch")
        return 0
    start = arguments.values.get("launch", "")
    candidates = [launch for launch in launches if start or launch.owner == user()]
    chosen = [launch for launch in candidates if start == "all" or launch.id.startswith(start)]
    for launch in launches:
        origin = f"{launch.id} {launch.owner} {launch.host} {launch.started}, {len(launch.runs)} runs"
        console.print(f"{origin}: {'to cancel' if launch in chosen else 'stays'}", soft_wrap=True, markup=False)
    if not chosen:
        whose = f"begins with {start}" if start else "is yours"
        raise UsageError(f"none of these launches {whose}; type launch= and an id, or launch=all")
    others = frozenset[str]().union(*(launch.runs for launch in active_launches(runs_dir) if launch not in chosen))
    released = frozenset[str]().union(*(launch.runs for launch in chosen)) - others
    states = Counter(RunFolder(runs_dir, run).state() for run in released)
    console.print(f"active runs to release: {states['running']}, waiting runs that will not start: {states['new']}")
    if not arguments.value("yes", False):
        if not sys.stdin.isatty():
            raise UsageError("cancel? There is no terminal to answer in; type yes=true to confirm")
        if input("cancel? [y/N] ").strip().lower() not in ("y", "yes"):
            return 0
    is_cancelled = [cancel(launch, released) for launch in chosen]
    for launch, is_reached in zip(chosen, is_cancelled, strict=True):
        if not is_reached:
            console.print(f"{launch.id} has ended meanwhile", soft_wrap=True)
        elif left := withdraw(launch):
            console.print(f"still in the queue: {left}", soft_wrap=True)
    if any(is_cancelled):
        console.print("Cancelled; workers stop within half a minute. Launch the sweep again to resume.")
    return 0


def replay_command(arguments: Arguments) -> int:
    from aimv2.sweeps.replay import recorded_in_folder, recorded_in_report, replay  # here, because status loads faster

    (name, *_), typed = arguments.names, arguments.values
    if "records" in typed:
        recorded = recorded_in_report(Path(typed["records"]), name, typed.get("data.cache_dir", "cache"))
    elif "data.cache_dir" in typed:
        raise UsageError("data.cache_dir= is for runs of records; type records=REPORT too")
    else:
        recorded = recorded_in_folder(named_run(arguments.runs_dir, name))
    say = partial(console.print, soft_wrap=True, markup=False)
    return 0 if replay(recorded, say, tolerance=arguments.value("tolerance", 0.0)) else 1


COMMANDS: dict[str, tuple[Callable[[Arguments], int], str]] = {  # with what a command needs the name of
    "status": (status_command, ""),
    "logs": (logs_command, "run"),
    "retry": (retry_command, "sweep"),
    "cancel": (cancel_command, "sweep"),
    "extend": (extend_command, "sweep"),
    "measure": (measure_command, "sweep"),
    "replay": (replay_command, "run"),
}


def _progress(arguments: Arguments, readers: Mapping[str, RunReader]) -> list[SweepStatus]:
    """Return the progress of the named sweeps, or of all that can be read, and of single runs."""
    runs_dir, looks, every = arguments.runs_dir, status_looks(), requested_names(arguments.runs_dir)
    sweeps = list[SweepStatus]()
    for name in arguments.names or every:
        if name != SINGLE:
            try:
                request = read_request(runs_dir, name, STUDIES, owner=user())
            except UsageError:  # read_request has printed why
                if arguments.names:
                    raise
            else:
                sweeps.append(_status(request, runs_dir, readers[request.folder], looks))
    if not arguments.names or SINGLE in arguments.names:
        others = requested_runs(runs_dir).union(*(trials_of(runs_dir, name).runs for name in every))
        single = single_status(runs_dir, others, readers[SINGLE], looks, queue_of=queue_of)
        if single is not None:
            sweeps.append(single)
    return sweeps


def _status(request: Request, runs_dir: Path, reader: RunReader, looks: Looks) -> SweepStatus:
    plan, trials = Plan(request.folder, request.cells, runs_dir, (request,)), trials_of(runs_dir, request.folder)
    return plan_status(plan, reader, looks, queue_of=queue_of, trials=trials)


if __name__ == "__main__":
    sys.exit(script_of(main))
