"""Do a finished run again and compare it with its record."""

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

NOT_COMPARED = ("seconds", "images_per_second")  # they depend on the machine and its load
PROVENANCE = ("code", "commit", "hardware", "threads", "versions", "data", "tokenizer")


@dataclass
class Comparison:
    """A replay beside its record.

    Attributes:
        is_equal: True if the values of every step and every final metric are bitwise equal.
        lines: what was compared and where it differs, in words.
    """

    is_equal: bool = True
    lines: list[str] = field(default_factory=list)


def replay(run: RunFolder) -> Comparison:
    """Do a finished run again in a temporary folder and compare.

    Raises:
        UsageError: the run's config no longer has the run's name.
        RunFailedError: the replay failed.
    """
    from aimv2.execute import execute

    config = from_dict(read_json(run.path / "config.json"))
    if signature(config) != run.name:
        raise UsageError(
            f"{run.path / 'config.json'} is not the config of {run.name}: this version names it differently"
        )
    with tempfile.TemporaryDirectory() as folder:
        again = RunFolder(Path(folder), run.name)
        attempt = again.acquire(config)
        assert attempt is not None, "the folder is new"
        failure = execute(attempt, config)
        if failure is not None:
            raise RunFailedError(failure.cause, f"the replay failed ({failure.cause}): {failure.message}")
        return _compared(run, again)


def _compared(run: RunFolder, again: RunFolder) -> Comparison:
    found = Comparison()
    _note(found, "step", *(_by_step(one.metrics()) for one in (run, again)))
    _note(found, "final metric", *(_final(one) for one in (run, again)))
    was, now = (read_json(one.file("manifest.json")) for one in (run, again))
    for key in PROVENANCE:
        if was.get(key) != now.get(key):
            found.lines.append(f"{key} was {was.get(key)} and is {now.get(key)}")
    found.lines.append("equal to the last bit" if found.is_equal else "not equal")
    return found


def _by_step(rows: pd.DataFrame) -> dict[str, Any]:
    """Return the values by name and step."""
    compared = rows.drop(columns=[name for name in NOT_COMPARED if name in rows])
    if compared.empty:
        return {}
    values = compared.melt(id_vars=["step"]).dropna(subset=["value"])
    keys = (f"{name} at step {step}" for name, step in zip(values["variable"], values["step"], strict=True))
    return dict(zip(keys, values["value"], strict=True))


def _final(run: RunFolder) -> dict[str, Any]:
    return {name: metric["value"] for name, metric in run.result()["metrics"].items()}


def _note(found: Comparison, what: str, was: dict[str, Any], now: dict[str, Any]) -> None:
    """Note how many values are equal, the largest difference, and values that only one of the two has."""
    differ = {name: abs(was[name] - now[name]) for name in was.keys() & now.keys() if was[name] != now[name]}
    alone = sorted(was.keys() ^ now.keys())
    found.lines.append(f"{len(was)} {what} values compared, {len(differ)} differ")
    if differ:
        largest = max(differ, key=lambda name: differ[name])
        found.lines.append(f"largest difference: {largest} was {was[largest]!r} and is {now[largest]!r}")
    if alone:
        found.lines.append(f"in only one of the two: {', '.join(alone[:5])}")
    found.is_equal &= not differ and not alone
