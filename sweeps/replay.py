"""A finished run done again, and held against its record."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from aimv2.config.run_config import from_dict
from aimv2.config.signature import signature
from aimv2.errors import RunFailedError, UsageError
from aimv2.runs.files import read_json
from aimv2.runs.record import RunFolder

NOT_COMPARED = ("seconds", "images_per_second")  # they are of the machine and the hour
PROVENANCE = ("code", "commit", "hardware", "threads", "versions", "data", "tokenizer")


@dataclass
class Replayed:
    """What a replay showed.

    Attributes:
        is_equal: every step's values and every final metric are the same to the last bit.
        lines: what was compared, and where it differs.
    """

    is_equal: bool = True
    lines: list[str] = field(default_factory=list)


def replay(run: RunFolder) -> Replayed:
    """Do a finished run again, in a folder that is deleted afterwards, and compare.

    Raises:
        UsageError: its config is not that of its name any more.
        RunFailedError: it failed this time.
    """
    from aimv2.execute import execute

    config = from_dict(read_json(run.path / "config.json"))
    if signature(config) != run.name:
        raise UsageError(f"{run.path / 'config.json'} is not the config of {run.name}: this version names it otherwise")
    with tempfile.TemporaryDirectory() as folder:
        again = RunFolder(Path(folder), run.name)
        attempt = again.acquire(config)
        assert attempt is not None, "nobody else knows the folder"
        failure = execute(attempt, config)
        if failure is not None:
            raise RunFailedError(failure.cause, f"the replay failed ({failure.cause}): {failure.message}")
        return _compared(run, again)


def _compared(run: RunFolder, again: RunFolder) -> Replayed:
    found = Replayed()
    _note(found, "step", *(_by_step(one.metrics()) for one in (run, again)))
    _note(found, "final metric", *(_final(one) for one in (run, again)))
    was, now = (read_json(one.file("manifest.json")) for one in (run, again))
    for key in PROVENANCE:
        if was.get(key) != now.get(key):
            found.lines.append(f"{key} was {was.get(key)} and is {now.get(key)}")
    found.lines.append("equal to the last bit" if found.is_equal else "not equal")
    return found


def _by_step(rows: pd.DataFrame) -> dict[str, Any]:
    """Values by what they are and their step."""
    compared = rows.drop(columns=[name for name in NOT_COMPARED if name in rows])
    if compared.empty:
        return {}
    values = compared.melt(id_vars=["step"]).dropna(subset=["value"])
    keys = (f"{name} at step {step}" for name, step in zip(values["variable"], values["step"], strict=True))
    return dict(zip(keys, values["value"], strict=True))


def _final(run: RunFolder) -> dict[str, Any]:
    return {name: metric["value"] for name, metric in run.result()["metrics"].items()}


def _note(found: Replayed, what: str, was: dict[str, Any], now: dict[str, Any]) -> None:
    """Say how many values are the same, and of the others the one that differs most and any that only one has."""
    differ = {name: abs(was[name] - now[name]) for name in was.keys() & now.keys() if was[name] != now[name]}
    alone = sorted(was.keys() ^ now.keys())
    found.lines.append(f"{len(was)} {what} values compared, {len(differ)} differ")
    if differ:
        largest = max(differ, key=lambda name: differ[name])
        found.lines.append(f"largest difference: {largest} was {was[largest]!r} and is {now[largest]!r}")
    if alone:
        found.lines.append(f"only one of the two has {', '.join(alone[:5])}")
    found.is_equal &= not differ and not alone
