"""The report of a verification: Markdown and its figures, complete before anything old is replaced."""

import json
import re
import shlex
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from aimv2.base.errors import UsageError
from jinja2 import Environment, PackageLoader, StrictUndefined

from aimv2.config.recipes.scales import SCALES, demo
from aimv2.config.serialization import to_dict
from aimv2.data.sources.credits import credits_of
from aimv2.data.transforms import unnormalise
from analysis.document.model import escape
from analysis.publication.sources import credits_text
from analysis.verify.balance import ALPHAS, Balance
from analysis.verify.captions import NUM_BEAMS, TOP_P, Captions
from analysis.verify.check import Check
from analysis.verify.figures import draw_balance, draw_pictures, draw_prefix_lengths, save_thumbnail
from analysis.verify.pixels import Pixels
from analysis.verify.prefix import PrefixLengths
from analysis.verify.trained_run import TrainedRun

OURS = re.compile(r"report\.md|prefix_lengths\.svg|balance\.svg|pixels\.png|example_\d\d\.png")  # may be deleted


class Findings(NamedTuple):
    """The outcomes of all checks."""

    prefix_lengths: PrefixLengths
    masks: list[Check]
    balance: Balance
    pixels: Pixels
    pictures: dict[str, list[np.ndarray]]
    captions: Captions

    @property
    def checks(self) -> list[Check]:
        losses = [*self.balance.checks, self.pixels.check, *self.captions.checks]
        return [self.prefix_lengths.check, *self.masks, *losses]


def summary(run: TrainedRun, findings: Findings) -> list[str]:
    """Return how many checks passed and failed, and facts needed to interpret that: a sentence each."""
    config, checks = run.config, findings.checks
    name, recipe = config.objective.name, SCALES.get(config.scale, demo)()
    counts = Counter(check.verdict for check in checks)
    absent = f", {counts['NOT APPLICABLE']} NOT APPLICABLE" if counts["NOT APPLICABLE"] else ""
    sentences = [f"{len(checks)} checks: {counts['PASS']} PASS, {counts['FAIL']} FAIL{absent}."]
    if not {"captions", "pixels"} & set(run.objective.reports):
        judged = [check.name for check in checks if check.passes is not None]
        sentences.append(
            f"Objective {name} predicts neither pixels nor captions, so their checks do not apply;"
            f" verified: {', '.join(judged) or 'nothing'}. Its own metric, retrieval, is in the run's result."
        )
    if counts["FAIL"] and config.budget.samples < recipe.budget.samples:
        sentences.append(
            f"The run is short: it has seen {config.budget.samples:,} samples. Before you look for a fault, check a run"
            f" of `python -m aimv2 train scale={recipe.scale} objective.name={name}`, which sees"
            f" {recipe.budget.samples:,}."
        )
    return sentences


def write_report(run: TrainedRun, findings: Findings, arguments: Sequence[str], out: Path) -> Path:
    """Write ``out/report.md`` and its figures, and return its path; other files there are left alone.

    Everything is made in a folder beside ``out``, then moved in file by file, the text last.

    Raises:
        UsageError: the folder cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.resolve().parent) as folder:
            workspace = Path(folder)
            _draw(run, findings, workspace)
            (workspace / "report.md").write_text(_text(run, findings, arguments), encoding="utf-8")
            out.mkdir(parents=True, exist_ok=True)
            new = sorted((path.name for path in workspace.iterdir()), key=lambda name: name == "report.md")
            for name in new:
                (workspace / name).replace(out / name)
        for path in out.iterdir():
            if OURS.fullmatch(path.name) and path.name not in new:
                path.unlink()
    except OSError as error:
        raise UsageError(f"out={str(out)!r} cannot be written: {error.strerror}") from error
    return out / "report.md"


def _draw(run: TrainedRun, findings: Findings, folder: Path) -> None:
    unit = "steps" if run.config.prefix.per == "batch" else "samples"
    if findings.prefix_lengths.count_I.any():
        draw_prefix_lengths(findings.prefix_lengths, unit, folder / "prefix_lengths.svg")
    if not (findings.balance.recorded.empty and findings.balance.at_end.empty):
        draw_balance(findings.balance, run.config.objective.pixel_weight, folder / "balance.svg")
    if findings.pictures:
        draw_pictures(findings.pictures, folder / "pixels.png")
    for number, caption in enumerate(findings.captions.shown, 1):
        save_thumbnail(unnormalise(run.image[caption.row]), folder / f"example_{number:02d}.png")


def _text(run: TrainedRun, findings: Findings, arguments: Sequence[str]) -> str:
    config = run.config
    environment = Environment(
        loader=PackageLoader("analysis"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"md": escape}
    return environment.get_template("verify.md.j2").render(
        run=run,
        config=config,
        command=shlex.join(["python", "-m", "analysis.verify", *arguments]),
        summary=" ".join(summary(run, findings)),
        findings=findings,
        alphas=sorted({*ALPHAS, config.objective.pixel_weight}),
        num_beams=NUM_BEAMS,
        top_p=TOP_P,
        credits=credits_text(credits_of([config])),
        config_json=json.dumps(to_dict(config), indent=1, ensure_ascii=False),
    )
