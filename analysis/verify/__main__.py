"""``python -m aimv2.analysis.verify``: check a finished run, print the outcomes and write a report of one page."""

import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from aimv2.analysis.document.model import Block, Document, Paragraph, Section, Table
from aimv2.analysis.document.write import check_replaceable, write
from aimv2.analysis.sections.runs import credits_text
from aimv2.analysis.usage import VerifyOptions, verify_usage
from aimv2.analysis.verify.checks import Check, TrainedRun, checks_of
from aimv2.base.errors import UsageError
from aimv2.base.files import writable_folder
from aimv2.config.arguments import HELP, as_typed, guarded, read_options, script_of
from aimv2.config.program import SIGNATURE_VERSION
from aimv2.config.recipes.scales import SCALES, demo
from aimv2.data.prepare import prepare
from aimv2.data.provenance import credits_of
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.definitions.programs import check_plugins
from aimv2.objectives.build import build
from aimv2.request.origin import Origin, read_origin
from aimv2.request.resolve import data_fingerprint, with_attention
from aimv2.runs.tensor_file import read_tensors

STYLES: dict[str, str] = {"PASS": "green", "FAIL": "bold red", "NOT APPLICABLE": "yellow"}


def verify_command(arguments: Sequence[str]) -> int:
    """Check one finished run, print a line per check and write the report; return 0 if no check fails, else 1."""
    if HELP & set(arguments):
        print(verify_usage(), end="")
        return 0
    first = [text if "=" in text else f"run={text}" for text in arguments[:1]]
    options = read_options(VerifyOptions, [*first, *arguments[1:]])
    run = load(find(options.run, Path(options.runs_dir)))
    out = writable_folder(options.out, "out")
    check_replaceable(out)
    torch.set_num_threads(run.config.threads)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"run {run.name}")
    checks = checks_of(run)
    for check in checks:
        console.print(str(check), style=STYLES[check.verdict])
    console.print(summary(run, checks))
    console.print(f"report: {write(document(run, checks, arguments), out)}")
    return int(any(check.passes is False for check in checks))


def find(run: str | None, runs_dir: Path) -> Origin:
    """Find a finished run: a path, a name in ``runs_dir``, or the newest trained one there but controls, which fail by
    design."""
    if run is not None:
        in_runs_dir = (runs_dir / run).is_dir() and not Path(run).is_dir()
        return read_origin(str(runs_dir / run) if in_runs_dir else run, "run")
    results = runs_dir.glob(f"v{SIGNATURE_VERSION}-*/result.json")
    for result in sorted(results, key=lambda path: (path.stat().st_mtime_ns, path), reverse=True):
        origin = read_origin(str(result.parent), "run")
        if origin.run and origin.run.budget.samples and origin.run.data.captions == origin.run.data.pixels == "own":
            return origin
    where = "" if runs_dir == Path("runs") else f" runs_dir={runs_dir}"
    raise UsageError(
        f"runs_dir={str(runs_dir)!r} has no finished trained run, controls apart;"
        f" make one with: {as_typed('train')}{where}"
    )


def load(origin: Origin) -> TrainedRun:
    """Load a finished run and prepare its data."""
    config, path = origin.run, origin.path
    if config is None or not config.budget.samples or config.native.areas:
        raise UsageError(f"{path} is no trained run on squares of one size, and only such runs are checked")
    check_plugins(config, path.name)
    device = config.device if config.device == "cpu" or torch.cuda.is_available() else "cpu"
    config = replace(with_attention(config), device=device, precision="float32")
    try:
        tokenizer = CaptionTokenizer.load(origin.tokenizer)
    except UsageError as error:
        raise UsageError(f"run {path} is broken: its tokenizer.json cannot be read") from error
    fingerprint = config.data.fingerprint and data_fingerprint(config)
    data = prepare(config.data, config.model.vocab_size, show_progress=True)
    if (fingerprint, data.tokenizer.fingerprint) != (config.data.fingerprint, tokenizer.fingerprint):
        raise UsageError(
            f"the data packages changed since run {path} was made; install the versions of its manifest.json, or train"
            " again"
        )
    model = build(config)
    try:
        model.load_state_dict(read_tensors(origin.file), strict=True)
    except (UsageError, RuntimeError) as error:
        text = " ".join(str(error).split())
        raise UsageError(f"{origin.file} does not hold this run's weights ({text})") from error
    return TrainedRun(path.name, config, model.to(device).eval(), data)


def summary(run: TrainedRun, checks: Sequence[Check]) -> str:
    """Return how many checks passed and failed, and whether the run is too short to have learned."""
    config, counts = run.config, Counter[str](check.verdict for check in checks)
    text = f"{len(checks)} checks: " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in STYLES) + "."
    recipe = SCALES.get(config.scale, demo)()
    if counts["FAIL"] and config.budget.samples < recipe.budget.samples:
        text += (
            f" The run is short: it has seen {config.budget.samples:,} samples. Before you look for a fault, check a"
            f" run of `python -m aimv2 train scale={recipe.scale} objective.name={config.objective.name}`, which sees"
            f" {recipe.budget.samples:,}."
        )
    return text


def document(run: TrainedRun, checks: Sequence[Check], arguments: Sequence[str]) -> Document:
    """Return the report; ``arguments`` are those of the command."""
    config = run.config
    rows = [[check.name, f"**{check.verdict}**", check.finding, check.criterion or "–"] for check in checks]
    note = (
        "Intervals are 95 % over evaluation items. Masks are checked with the trained weights on the first images of"
        " training: one patch, feature or token at a time is perturbed, and all outputs that must not see it stay"
        f" bitwise equal. {credits_text(credits_of([config]))}"
    )
    blocks: list[Block] = [Table(["check", "verdict", "found", "criterion"], rows, "checks"), Paragraph(note)]
    command = shlex.join(["python", "-m", "aimv2.analysis.verify", *arguments])
    return Document(
        title=f"Verification of run {run.name}",
        subtitle=f"Made by `{command}`: objective {config.objective.name}, scale {config.scale},"
        f" {config.budget.samples:,} samples, seed {config.seed}; computed here on {config.device} in float32.",
        answer=summary(run, checks),
        sections=[Section("Checks", blocks)],
        numbers={"run": run.name, "checks": [check._asdict() | {"verdict": check.verdict} for check in checks]},
    )


if __name__ == "__main__":
    sys.exit(script_of(lambda arguments: guarded(verify_command, arguments, as_typed("verify"))))
