"""What a launch asked for, kept beside the runs: enough to build its report or to launch it again."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ablations.expand import Cell
from ablations.overrides import StudyOverrides, study_overrides
from ablations.study import Study
from aimv2.config.run_config import from_dict, to_dict
from aimv2.errors import UsageError
from aimv2.runs.files import read_json, write_json

FOLDER = "studies"
DEFAULT_SCALE = "demo"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A launch.

    Attributes:
        study: as it was asked for.
        cells: the runs it wants.
        arguments: as they were typed.
    """

    study: Study
    cells: list[Cell]
    arguments: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The name of its report and of what is kept beside the runs: another for each scale."""
        scales = dict.fromkeys(cell.config.scale for cell in self.cells)
        return "_".join([self.study.folder, *(scale for scale in scales if scale != DEFAULT_SCALE)])


def write_request(runs_dir: Path, request: Request) -> None:
    """Keep it as its study's last launch into this folder."""
    path = _file(runs_dir, request.folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_request(path, request)


def read_request(runs_dir: Path, name: str, studies: Mapping[str, Study]) -> Request:
    """A study's last launch into this folder.

    Args:
        name: the launch's folder name, which is the study's slug, and what is not the default: scale, equal in what.

    Raises:
        UsageError: there was none, or its file is broken or from a version that knew other studies.
    """
    path = _file(runs_dir, name)
    if not path.exists():
        there = ", ".join(requested_names(runs_dir)) or "none"
        raise UsageError(f"sweep {name!r} was not launched into {str(runs_dir)!r} yet; launched there: {there}")
    return load_request(path, studies)


def save_request(path: Path, request: Request) -> None:
    """Write a launch to a file."""
    # The runs of an arm differ by their seed alone, so a config an arm says it all.
    configs = {cell.arm: to_dict(cell.config) for cell in reversed(request.cells)}
    values = {
        "arguments": request.arguments,
        "sweep": dataclasses.asdict(study_overrides(request.study)),
        "configs": configs,
        "cells": [
            {"arm": cell.arm, "seed": cell.seed, "run": cell.name, "run_seed": cell.config.seed}
            for cell in request.cells
        ],
    }
    write_json(path, values)


def load_request(path: Path, studies: Mapping[str, Study]) -> Request:
    """Read it back.

    Raises:
        UsageError: the file is broken or from a version that knew other studies.
    """
    recorded = read_json(path)
    try:
        study = studies[recorded["sweep"]["slug"]]
        # A record is older than what could not be asked for then, which was the study's own.
        asked_for = TypeAdapter(StudyOverrides).validate_python(
            dataclasses.asdict(study_overrides(study)) | recorded["sweep"]
        )
        return Request(
            study=asked_for.apply(study),
            cells=_cells(recorded),
            arguments=tuple(recorded["arguments"]),
        )
    except (KeyError, TypeError, ValidationError, UsageError) as error:
        raise UsageError(f"{path} does not say what was launched; launch the sweep again") from error


def requested_names(runs_dir: Path) -> list[str]:
    """Of every study that was launched into this folder."""
    return sorted(path.stem for path in (runs_dir / FOLDER).glob("*.json"))


def _cells(recorded: Mapping[str, Any]) -> list[Cell]:
    configs = {arm: from_dict(values) for arm, values in recorded["configs"].items()}
    return [
        Cell(
            arm=cell["arm"],
            seed=cell["seed"],
            config=dataclasses.replace(configs[cell["arm"]], seed=cell["run_seed"]),
        )
        for cell in recorded["cells"]
    ]


def _file(runs_dir: Path, name: str) -> Path:
    return runs_dir / FOLDER / f"{name}.json"
