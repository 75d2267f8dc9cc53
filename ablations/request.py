"""The request of a launch, saved beside the runs: enough to build its report or to launch it again."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ablations.design import Arm
from ablations.expand import Cell
from ablations.overrides import StudyOverrides, study_overrides
from ablations.study import Study
from aimv2.config.run_config import from_dict, to_dict
from aimv2.errors import UsageError
from aimv2.runs.files import read_json, write_json

FOLDER = "studies"
LOOKS_SUFFIX = ".looks.json"  # the record of looks at a study, beside its request
DEFAULT_SCALE = "demo"
RENAMED = {"smallest_difference": "equivalence_margin"}  # keys of older records


@dataclass(frozen=True, kw_only=True)
class Request:
    """The request of a launch.

    Attributes:
        study: the study with the overrides of the launch.
        cells: the requested runs.
        arguments: the command line as typed.
    """

    study: Study
    cells: list[Cell]
    arguments: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The name of its report and of its record; it differs by scale."""
        scales = dict.fromkeys(cell.config.scale for cell in self.cells)
        return "_".join([self.study.folder, *(scale for scale in scales if scale != DEFAULT_SCALE)])


def write_request(runs_dir: Path, request: Request) -> None:
    """Record a request as the latest of its study in this folder."""
    path = runs_dir / FOLDER / f"{request.folder}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_request(path, request)


def read_request(runs_dir: Path, name: str, studies: Mapping[str, Study]) -> Request:
    """Return the latest request of a study in this folder.

    Args:
        name: ``Request.folder``: the study's slug, with ``equal`` and scale if they are not the default.

    Raises:
        UsageError: there is none, or its file is broken or names an unknown study.
    """
    path = runs_dir / FOLDER / f"{name}.json"
    if not path.exists():
        there = ", ".join(requested_names(runs_dir)) or "none"
        raise UsageError(f"sweep {name!r} was not launched into {str(runs_dir)!r} yet; launched there: {there}")
    return load_request(path, studies)


def save_request(path: Path, request: Request) -> None:
    """Write a request to a file."""
    values = {
        "arguments": request.arguments,
        "sweep": dataclasses.asdict(study_overrides(request.study)),
        "adapted": {
            "arms": {name: arm.label for name, arm in request.study.arms.items()},
            "notes": request.study.notes,
            "stand_ins": dict(request.study.stand_ins),
        },
        # The runs of an arm differ in their seed only, so one config per arm is enough.
        "configs": {cell.arm: to_dict(cell.config) for cell in reversed(request.cells)},
        "cells": [
            {"arm": cell.arm, "seed": cell.seed, "run": cell.name, "run_seed": cell.config.seed}
            for cell in request.cells
        ],
    }
    write_json(path, values)


def load_request(path: Path, studies: Mapping[str, Study]) -> Request:
    """Read a request from a file. Missing keys have the study's values; keys that no longer exist are ignored.

    Raises:
        UsageError: the file is broken or names an unknown study.
    """
    recorded = read_json(path)
    try:
        study = _as_adapted(studies[recorded["sweep"]["slug"]], recorded)
        values = dataclasses.asdict(study_overrides(study))
        current = {RENAMED.get(key, key): value for key, value in recorded["sweep"].items()}
        values |= {key: value for key, value in current.items() if key in values}
        overrides = TypeAdapter(StudyOverrides).validate_python(values)
        configs = {arm: from_dict(config) for arm, config in recorded["configs"].items()}
        cells = [
            Cell(
                arm=one["arm"], seed=one["seed"], config=dataclasses.replace(configs[one["arm"]], seed=one["run_seed"])
            )
            for one in recorded["cells"]
        ]
        return Request(study=overrides.apply(study), cells=cells, arguments=tuple(recorded["arguments"]))
    except (KeyError, TypeError, ValidationError, UsageError) as error:
        raise UsageError(f"{path} is not the record of a launch of a known study; launch the sweep again") from error


def _as_adapted(study: Study, recorded: Mapping[str, Any]) -> Study:
    """Return a study of the catalogue as it was adapted to its data (``ablations/adapt.py``), which may be gone.

    Its arms are those of the record; the runs, not these arms, say what they change.
    """
    if "adapted" not in recorded:
        return study
    adapted, sweep = recorded["adapted"], recorded["sweep"]
    arms = {
        name: dataclasses.replace(study.arms[name], label=label) if name in study.arms else Arm(label=label)
        for name, label in dict(adapted["arms"]).items()
    }
    return dataclasses.replace(
        study,
        design=dataclasses.replace(study.design, arms=arms),
        baseline=sweep["baseline"],
        primary_metric=sweep["primary_metric"],
        expected={},  # the record has them
        notes=tuple(adapted["notes"]),
        stand_ins=adapted["stand_ins"],
    )


def requested_names(runs_dir: Path) -> list[str]:
    """Return the names of all requests in this folder."""
    paths = (runs_dir / FOLDER).glob("*.json")
    return sorted(path.stem for path in paths if not path.name.endswith(LOOKS_SUFFIX))
