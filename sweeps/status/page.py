"""The page of ``manage.py serve``: progress, failures and learning curves of sweeps. Nothing is written."""

import base64
import contextlib
import hashlib
import json
import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from aimv2.run.price import duration
from aimv2.runs.lease import attempt_folder
from aimv2.runs.rows import ROWS
from aimv2.sweeps.status.board import ADVICE, by_arm, by_cause, headline
from aimv2.sweeps.status.status import SweepStatus

NUM_BINS = 80  # points of a training curve
WIDTH, HEIGHT = 640, 240  # of a chart, in its own units
NUM_COLOURS = 7  # of active runs, in page.css; the next ones repeat them
MAX_CURVES = 14
TICKS = 4
LARGEST = 1e100  # value that is drawn; others have no scale
START = 0.03  # share of the samples whose losses, which fall fast, may leave the chart

Points = list[tuple[float, float]]  # samples and value


class Curves:
    """The curves of an attempt, from rows that are read once, as they are written."""

    def __init__(self, attempt: Path, budget: int) -> None:
        self._rows = attempt / ROWS
        self._width = max(budget / NUM_BINS, 1.0)
        self._place = 0
        self._values: dict[str, dict[int, Points]] = defaultdict(lambda: defaultdict(list))

    def points(self) -> dict[str, Points]:
        """Return the curve of each loss and held-out value; training losses are means of bins."""
        with contextlib.suppress(OSError), self._rows.open("rb") as file:
            file.seek(self._place)
            while (line := file.readline()).endswith(b"\n"):
                self._place += len(line)
                with contextlib.suppress(ValueError, TypeError, AttributeError, KeyError):  # a broken line
                    self._add(json.loads(line))
        return {
            name: [(fmean(x for x, _ in found), fmean(y for _, y in found)) for _, found in sorted(bins.items())]
            for name, bins in self._values.items()
        }

    def _add(self, row: Mapping[str, float]) -> None:
        samples = row["samples"]
        for name, value in row.items():
            is_held_out = name.startswith("held_out_")
            is_drawn = (is_held_out or name.endswith("_loss")) and value is not None
            if is_drawn and 0 <= samples < LARGEST > abs(value):
                place = int(samples if is_held_out else min(samples / self._width, NUM_BINS - 1))
                self._values[name][place].append((samples, value))


class Page:
    """Renders sweeps, and remembers the curves that it has read.

    Args:
        runs_dir: folder of the runs.
        refresh_seconds: after which a browser loads the page again.
    """

    def __init__(self, runs_dir: Path, refresh_seconds: int) -> None:
        self._runs_dir = runs_dir
        self._refresh = refresh_seconds
        self._curves = lru_cache(maxsize=1000)(Curves)
        own, of_reports = files("aimv2.sweeps.status") / "page.css", files("aimv2.analysis.document") / "page.css"
        self._css = of_reports.read_text() + own.read_text()
        self._template = Environment(
            loader=PackageLoader("aimv2.sweeps.status", ""),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        ).get_template("page.html.j2")

    @property
    def policy(self) -> str:
        """The Content-Security-Policy of the page: its own style, and nothing else."""
        digest = base64.b64encode(hashlib.sha256(self._css.encode()).digest()).decode()
        return (
            f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors"
            " 'none'"
        )

    def rendered(self, sweeps: Sequence[SweepStatus]) -> str:
        """Return the page of sweeps, which were read just now; what folders contain is escaped."""
        return self._template.render(
            sweeps=[
                {
                    "status": sweep,
                    "headline": headline(sweep),
                    "arms": list(by_arm(sweep)),
                    "running": [run for run in sweep.runs if run.state == "running"],
                    "reasons": by_cause(run for run in sweep.runs if run.state == "failed"),
                    "charts": self._charts(sweep),
                }
                for sweep in sweeps
            ],
            advice=ADVICE,
            css=Markup(self._css),
            duration=duration,
            refresh=self._refresh,
            time=time.strftime("%H:%M:%S"),
            size=(WIDTH, HEIGHT),
        )

    def _charts(self, sweep: SweepStatus) -> list[dict[str, Any]]:
        active = [run for run in sweep.runs if run.state == "running"][:MAX_CURVES]
        done = [run for run in sweep.runs if run.state == "done" and run.arm == sweep.baseline and run.budget]
        drawn = [(run, f"{run.arm}, done", "baseline") for run in done[:MAX_CURVES]] if active else []
        drawn += [(run, f"{run.arm}, seed {run.seed}", f"c{n % NUM_COLOURS}") for n, run in enumerate(active)]
        curves: dict[str, list[tuple[str, str, Points]]] = defaultdict(list)
        for run, label, look in drawn:
            attempt = attempt_folder(self._runs_dir / run.run, run.attempt)
            for name, points in self._curves(attempt, run.budget).points().items():
                curves[name].append((label, look, points))
        names = sorted(curves, key=lambda name: (name.startswith("held_out_"), name))
        return [_chart(name, curves[name]) for name in names]


def _chart(name: str, curves: Sequence[tuple[str, str, Points]]) -> dict[str, Any]:
    """Return the chart of one value: its curves, each with the label and the class of the page's style that the legend
    has too, as points of a polyline; and the place and the label of each tick."""
    title = name.removeprefix("held_out_").replace("_", " ")
    every = [point for _, _, points in curves for point in points]
    right = max(x for x, _ in every) or 1.0
    shown = [y for x, y in every if x >= START * right] or [0.0]
    low, high = min(shown), max(shown)
    spread = (high - low) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return x / right * WIDTH, HEIGHT * (1 - (y - low) / spread)

    return {
        "title": f"{title}, {'held-out pairs' if name.startswith('held_out_') else 'training'}, by samples",
        "lines": [
            {"key": (label, look), "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*one) for one in points))}
            for label, look, points in curves
        ],
        "x_ticks": [(place(x, low)[0], f"{x:,.0f}") for x in _ticks(0.0, right)],
        "y_ticks": [(place(0.0, y)[1], f"{y:.4g}") for y in _ticks(low, high)],
    }


def _ticks(low: float, high: float) -> list[float]:
    """Return about TICKS round numbers in a range."""
    rough = (high - low) / TICKS or 1.0
    size = 10.0 ** math.floor(math.log10(rough))
    step = size * next(factor for factor in (1, 2, 5, 10) if factor * size >= rough)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
