"""Requests of launches, saved beside the runs: enough to build a study's report or to launch it again.

Each launch has a file of its own, so that users who share the folder never overwrite each other's. A study is the union
of its requests.
"""

import contextlib
import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.design import Arm
from aimv2.ablations.expand import Cell, check_metrics
from aimv2.ablations.study import (
    CONTROLS,
    Control,
    Study,
    confirmation,
    fits_all,
    is_untrained,
    overrides_from,
    study_overrides,
)
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, user, write_json
from aimv2.base.plugins import AT, check_loaded, load_from_snapshots
from aimv2.config.program import Program
from aimv2.config.run_config import program_of
from aimv2.definitions.metrics import METRICS, Definition, know
from aimv2.runs.provenance import snapshots

FOLDER = "studies"  # of requests
LOOKS_SUFFIX = ".looks.json"  # the record of looks at a study, beside the folder of its requests
DEFAULT_SCALE = "demo"
JUDGED = ("claims", "equivalence_margin")  # keys of how runs are judged
PROSE = ("question", "source")
OF_ONE_LAUNCH = ("dry_run", "price", "probe", "debug", "detach")  # that a launch of the same request does not repeat
LATER = ("suffix", "is_search")  # keys that are left out while they are empty, so that older records stay as they are


@dataclass(frozen=True, kw_only=True)
class MeasuredMetric:
    """A metric of a plug-in that was measured after the runs, by other runs; published records have such metrics."""

    name: str
    unit: str
    lower_is_better: bool
    plugin: str  # name and digest (``Plugin.id``)
    digest: str  # of the content of the plug-in and of the code that measured it
    typed: str  # as the command line named it, such as ``my.py:cka``

    def know(self) -> None:
        """Let the metric be known by its unit and direction, unless a version of its plug-in is loaded."""
        plugin = METRICS.plugin_of(self.name)
        if plugin is None or plugin.name != self.plugin.rpartition(AT)[0]:  # else it is a version of this one
            know(Definition(self.name, self.unit, self.lower_is_better))


@dataclass(frozen=True, kw_only=True)
class Request:
    """The request of a launch: the study with its overrides, the runs, and the command line as typed."""

    study: Study
    cells: list[Cell]
    arguments: tuple[str, ...]
    owner: str = dataclasses.field(default="", compare=False)  # user who launched it; empty before it is recorded
    metrics: tuple[MeasuredMetric, ...] = dataclasses.field(default=(), compare=False)

    @property
    def folder(self) -> str:
        """The name of its report and of its record; it differs by scale."""
        scales = dict.fromkeys(cell.config.label for cell in self.cells if self.study.base is None)
        return "_".join([self.study.folder, *(scale for scale in scales if scale != DEFAULT_SCALE)])

    @property
    def reports_dir(self) -> Path:
        """The folder of its report."""
        typed = [word.partition("=")[2] for word in self.arguments if word.startswith("reports_dir=")]
        return Path(typed[-1] if typed else "reports")

    @property
    def baseline(self) -> Program:
        """The baseline's run, of any seed."""
        return next(cell.config for cell in self.cells if cell.arm == self.study.baseline)

    @property
    def plugins(self) -> list[str]:
        """The plug-ins (``name@digest``) that the study and its runs need."""
        own = STUDIES.plugin_of(self.study.slug)
        used = [one for cell in self.cells for one in cell.config.plugins.values()]
        return list(dict.fromkeys([*([own.id] if own else []), *used]))


def write_request(runs_dir: Path, request: Request) -> None:
    """Record a request as the newest of its study in this folder. The same request of the same user is one file."""
    folder = runs_dir / FOLDER / request.folder
    folder.mkdir(parents=True, exist_ok=True)
    values = request_to_json(request) | {"owner": user()}
    name = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
    # After all others, also if another host's clock is ahead of this one's.
    newest = max(map(_time_of, folder.glob("*.json")), default=0.0)
    write_json(folder / f"{name}.json", values | {"time": max(time.time(), newest + 1e-3)})


def read_requests(runs_dir: Path, name: str, studies: Mapping[str, Study]) -> list[Request]:
    """Return all requests of a study (``Request.folder``) in this folder, the newest first, and load the plug-ins that
    they need from its code snapshots, unless there are others of their names. Those that cannot be read are named on
    stderr; a UsageError if none is left."""
    paths = list((runs_dir / FOLDER / name).glob("*.json"))
    if not paths:
        there = ", ".join(requested_names(runs_dir)) or "none"
        raise UsageError(f"sweep {name!r} was not launched into {str(runs_dir)!r} yet; launched there: {there}")
    requests, problem = list[Request](), None
    for path in sorted(paths, key=_time_of, reverse=True):
        try:
            recorded = read_json(path)
            load_from_snapshots(_plugins_of(recorded), snapshots(runs_dir))
            request = request_from_json(recorded, studies, str(path))
            check_metrics(request.study, request.cells[0].config)
            requests.append(request)
        except UsageError as error:  # of another version, perhaps, or of code with a metric that this one lacks
            print(f"left out: {error}", file=sys.stderr)
            problem = error
    if not requests and problem is not None:
        raise problem
    return requests


def load_plugins(runs_dir: Path, names: Iterable[str]) -> None:
    """Load the plug-ins of these studies, as far as code snapshots of the folder have them."""
    for path in (path for name in names for path in (runs_dir / FOLDER / name).glob("*.json")):
        with contextlib.suppress(UsageError):  # what needs one says so
            load_from_snapshots(_plugins_of(read_json(path)), snapshots(runs_dir))


def read_request(
    runs_dir: Path, name: str, studies: Mapping[str, Study], like: Sequence[Cell] = (), owner: str = ""
) -> Request:
    """Return a study as the union of its requests that have the same baseline run: that of the cells ``like``, or of
    the owner's newest request, or of the newest of all.

    The newest of them decides the study's values, and the config of each arm: cells of older requests that differ in
    more than their seed are left out.
    """
    requests = read_requests(runs_dir, name, studies)
    newest = next((request for request in requests if request.owner == owner), requests[0])
    return union(requests, like or newest.cells)


def union(requests: Sequence[Request], like: Sequence[Cell]) -> Request:
    """Return those of a study's requests, the newest first, that have the baseline run of these cells, as one."""
    baseline_of = _arms(like).get
    same = [
        request
        for request in requests
        if baseline_of(request.study.baseline) == _arms(request.cells).get(request.study.baseline)
    ]
    study, arms, starts = same[0].study, dict[str, str](), dict[str, str]()
    cells, runs = dict[tuple[str, int], Cell](), set[str]()
    names = {*study.cell_names, *CONTROLS}
    for request in same:
        own = _arms(request.cells)
        arms = own | arms
        for cell in request.cells:
            # An untrained encoder is named by an arm of its request, and another request may have other arms.
            name = starts.setdefault(own[cell.arm], cell.arm) if is_untrained(cell.arm) else cell.arm
            # Two requests can mean one run by two cells, as seeds of the null control depend on all seeds of a request.
            is_new = (name, cell.seed) not in cells and cell.name not in runs
            if is_new and own[cell.arm] == arms[cell.arm] and name in names:
                cells[name, cell.seed] = dataclasses.replace(cell, arm=name)
                runs.add(cell.name)
    study = dataclasses.replace(study, controls=tuple(name for name in get_args(Control) if name in arms))
    return dataclasses.replace(same[0], study=study, cells=list(cells.values()))


def _arms(cells: Sequence[Cell]) -> dict[str, str]:
    """Return the name that each arm's run would have with seed 0."""
    configs = {cell.arm: cell.config for cell in cells}
    return {arm: config.with_seed(0).name for arm, config in configs.items()}


def _time_of(path: Path) -> float:
    """Return when a request was recorded; 0 if the file is broken."""
    try:
        return float(read_json(path)["time"])
    except (UsageError, KeyError, TypeError, ValueError):
        return 0.0


def request_to_json(request: Request) -> dict[str, Any]:
    sweep = dataclasses.asdict(study_overrides(request.study))
    sweep = {key: value for key, value in sweep.items() if value or key not in LATER}
    more = {"plugins": request.plugins, "metrics": [dataclasses.asdict(metric) for metric in request.metrics]}
    return {key: value for key, value in more.items() if value} | {
        "arguments": request.arguments,
        "sweep": sweep,
        "adapted": {
            "arms": {name: arm.label for name, arm in request.study.arms.items()},
            "notes": request.study.notes,
            "stand_ins": dict(request.study.stand_ins),
        },
        # The runs of an arm differ in their seed only, so one config per arm is enough.
        "configs": {cell.arm: cell.config.to_dict() for cell in reversed(request.cells)},
        "cells": [
            {"arm": cell.arm, "seed": cell.seed, "run": cell.name, "run_seed": cell.config.seed}
            for cell in request.cells
        ],
    }


def request_from_json(recorded: Any, studies: Mapping[str, Study], name: str) -> Request:
    """Return the request with these values, which are from ``name``; missing ones are the study's. How runs are judged
    is the study's of today, unless the launch chose it or its arms depend on the data. So are its question, source and
    labels, unless the study fits itself to its data."""
    check_loaded(_plugins_of(recorded), name, any_content=True)
    try:
        study = _as_adapted(known := studies[recorded["sweep"]["slug"]], recorded)
        is_adapted = bool(study.stand_ins) or not set(study.arms) <= set(known.arms)
        of_today = () if is_adapted else JUDGED + PROSE * (known.fit is fits_all)
        values = dataclasses.asdict(study_overrides(study))
        arguments, owner = tuple(recorded["arguments"]), str(recorded.get("owner", ""))
        values |= {
            key: value
            for key, value in recorded["sweep"].items()
            if key in values and (key not in of_today or any(word.startswith(f"sweep.{key}") for word in arguments))
        }
        overrides = overrides_from(values)
        configs = {arm: program_of(config) for arm, config in recorded["configs"].items()}
        cells = [
            Cell(arm=cell["arm"], seed=cell["seed"], config=configs[cell["arm"]].with_seed(cell["run_seed"]))
            for cell in recorded["cells"]
        ]
        metrics = tuple(MeasuredMetric(**metric) for metric in recorded.get("metrics", ()))
        for metric in metrics:
            metric.know()
        return Request(study=overrides.apply(study), cells=cells, arguments=arguments, owner=owner, metrics=metrics)
    except (KeyError, TypeError, ValidationError, UsageError) as error:
        raise UsageError(f"{name} is not the record of a launch of a study that this version knows") from error


def _plugins_of(recorded: Any) -> list[str]:
    return [str(one) for one in recorded.get("plugins", [])] if isinstance(recorded, dict) else []


def _as_adapted(study: Study, recorded: Mapping[str, Any]) -> Study:
    """Return a study of the catalogue as it was adapted to its data, which may be gone, with the arms of the record."""
    adapted, sweep = recorded["adapted"], recorded["sweep"]
    arms = {name: study.arms.get(name, Arm(label=label)) for name, label in dict(adapted["arms"]).items()}
    if study.fit is not fits_all:
        arms = {name: dataclasses.replace(arm, label=adapted["arms"][name]) for name, arm in arms.items()}
    # A claim that needs an arm of a later version is judged by its runs.
    needed = {claim: {arm for one in expected for arm in one.arms} for claim, expected in study.claims.items()}
    study = dataclasses.replace(
        study,
        design=dataclasses.replace(study.design, arms=arms),
        baseline=sweep["baseline"],
        primary_metric=sweep["primary_metric"],
        expected={},  # the record has them
        notes=tuple(adapted["notes"]),
        stand_ins=adapted["stand_ins"],
        claims={claim: study.claims[claim] for claim in study.claims if needed[claim] <= {*arms, *CONTROLS}},
    )
    return confirmation(study, arms) if sweep.get("is_search") else study


def requested_names(runs_dir: Path) -> list[str]:
    """Return the names of all studies with a request in this folder."""
    return sorted({path.parent.name for path in (runs_dir / FOLDER).glob("*/*.json")})


def requested_runs(runs_dir: Path) -> set[str]:
    """Return the names of all runs of readable requests in this folder."""
    runs = set[str]()
    for path in (runs_dir / FOLDER).glob("*/*.json"):
        with contextlib.suppress(UsageError, KeyError, TypeError):
            runs.update([str(cell["run"]) for cell in read_json(path)["cells"]])
    return runs
