"""Execute a finished run again and compare it with its record."""

import tempfile
from pathlib import Path
from typing import Any

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.base.files import read_json
from aimv2.config.serialization import from_dict
from aimv2.config.signature import signature
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import OF_MACHINE

PROVENANCE = ("code", "commit", "hardware", "threads", "versions", "data", "tokenizer")


def replay(run: RunFolder) -> tuple[bool, list[str]]:
    """Execute a finished run again in a temporary folder and compare.

    Returns:
        True if the values of every step and every final metric are bitwise equal; and sentences on what was compared
        and where it differs.

    Raises:
        UsageError: the run's config no longer has the run's name.
        RunFailedError: the replay failed.
    """
    from aimv2.run.execute import execute

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


def _compared(run: RunFolder, again: RunFolder) -> tuple[bool, list[str]]:
    was, now = _values(run), _values(again)
    differ = {name: abs(was[name] - now[name]) for name in was.keys() & now.keys() if was[name] != now[name]}
    lines = [f"{len(was)} values of steps and final metrics compared, {len(differ)} differ"]
    if differ:
        largest = max(differ, key=lambda name: differ[name])
        lines.append(f"largest difference: {largest} was {was[largest]!r} and is {now[largest]!r}")
    if alone := sorted(was.keys() ^ now.keys()):
        lines.append(f"in only one of the two: {', '.join(alone[:5])}")
    before, after = (read_json(one.file("manifest.json")) for one in (run, again))
    changed = [key for key in PROVENANCE if before.get(key) != after.get(key)]
    lines += [f"{key} was {before.get(key)} and is {after.get(key)}" for key in changed]
    is_equal = not differ and not alone
    return is_equal, [*lines, "equal to the last bit" if is_equal else "not equal"]


def _values(run: RunFolder) -> dict[str, Any]:
    rows = run.metrics().drop(columns=list(OF_MACHINE), errors="ignore").set_index("step")
    values = {f"{name} at step {step}": value for name in rows for step, value in rows[name].dropna().items()}
    return values | {name: metric["value"] for name, metric in run.result()["metrics"].items()}
