"""python analysis/report.py sweep=NAME: a study's report, as Markdown and as a self-contained HTML page."""

import contextlib
import errno
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # typed as a path: the packages beside it are meant, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from ablations.adapt import announcements
from ablations.catalogue import STUDIES
from ablations.expand import with_actual_ratios
from ablations.request import Request, read_request
from ablations.study import Study
from aimv2.cli import guarded
from aimv2.config.arguments import HELP, key_values
from aimv2.config.run_config import RunConfig
from aimv2.errors import UsageError
from aimv2.runs.files import user
from analysis import tables
from analysis.document.html import to_html
from analysis.figures.arms import draw_all, save, style
from analysis.inference.looks import Look, look, looks_path
from analysis.judgement.compare import mixed_code, primary_comparisons
from analysis.judgement.conclusions import code_note, conclusion, findings, look_note, power, warnings
from analysis.judgement.controls import NULL_LEVEL, NULL_NOTE, check_controls, withholding
from analysis.judgement.ladder import climb, decision_table, draw_ladder, ladder_table
from analysis.judgement.sensitivity import (
    FILE,
    SLUG,
    Ladder,
    MetricSensitivity,
    insensitive,
    not_measured,
    read_sensitivity,
    sensitivity_of,
    write_ladder,
)
from analysis.judgement.verdicts import verdicts
from analysis.load import Evidence, load
from analysis.sections.sources import credits_of, mixture_table, repeats

USAGE = """usage: python analysis/report.py sweep=NAME [runs_dir=runs] [reports_dir=reports]

Write the report of a launched study again, from its finished runs.

  sweep=NAME                   the study, or the name of its report where scale or sweep.equal is not the default
                               (scaling_tiny, scaling_equal_flops)
  debug=true                   show the traceback of an error
"""


def main(arguments: Sequence[str]) -> int:
    """Build a report; the exit status is 0 when it is written and 2 when that is not possible."""
    if not arguments or HELP & set(arguments):
        print(USAGE, end="")
        return 0 if arguments else 2
    return guarded(_rebuild, arguments)


def script() -> int:
    """The console script."""
    return main(sys.argv[1:])


def _rebuild(arguments: Sequence[str]) -> int:
    folders = {"runs_dir": "runs", "reports_dir": "reports"}
    values = folders | key_values(arguments, ["sweep", *folders])
    if "sweep" not in values:
        raise UsageError(f"which sweep? Type sweep=NAME. Allowed: {', '.join(STUDIES)}.")
    runs_dir = Path(values["runs_dir"])
    print(build(read_request(runs_dir, values["sweep"], STUDIES, owner=user()), runs_dir, Path(values["reports_dir"])))
    return 0


def build(request: Request, runs_dir: Path, reports_dir: Path) -> Path:
    """Write ``reports_dir/<study>/`` from the requested runs, completely or not at all.

    Returns:
        The path of ``report.md``.

    Raises:
        UsageError: the folder or the record of looks cannot be written, or a result or a sensitivity cannot be read.
    """
    evidence = load(request.cells, runs_dir)
    compared = evidence.runs[evidence.runs["arm"].isin(list(request.study.arms))]
    this_look = look(looks_path(runs_dir, request.folder), compared["seed"].tolist(), compared["run"].tolist())
    config, ladder = baseline_of(request), None
    if request.study.slug == SLUG:
        ladder = climb(with_actual_ratios(request.study, request.cells), evidence, config)
    sensitivity = sensitivity_of(ladder) if ladder else read_sensitivity(reports_dir, config)
    target = reports_dir / request.folder
    try:
        reports_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".report-", dir=reports_dir, ignore_cleanup_errors=True) as workspace:
            _write(request, evidence, this_look, sensitivity, ladder, Path(workspace, "new"))
            replace_folder(target, Path(workspace))
    except OSError as error:
        raise UsageError(f"the report folder {target} cannot be written: {error.strerror}") from error
    return target / "report.md"


def baseline_of(request: Request) -> RunConfig:
    """Return the baseline's run, of any seed."""
    return next(cell.config for cell in request.cells if cell.arm == request.study.baseline)


def _write(
    request: Request,
    evidence: Evidence,
    this_look: Look,
    sensitivity: Mapping[str, MetricSensitivity],
    ladder: Ladder | None,
    folder: Path,
) -> None:
    study = with_actual_ratios(request.study, request.cells)
    folder.mkdir()
    evidence.results.to_csv(folder / "results.csv", index=False)
    if ladder:
        write_ladder(folder / FILE, ladder)
    environment = Environment(
        loader=PackageLoader("analysis"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    context = _context(request, study, evidence, this_look, sensitivity, folder / "figures")
    context |= _ladder(study, ladder, context["figures"], folder / "figures")
    text = re.sub(r"\n{3,}", "\n\n", environment.get_template("report.md.j2").render(context))
    (folder / "report.md").write_text(text)
    page = environment.get_template("report.html.j2").render(title=request.folder, body=to_html(text, folder))
    (folder / "report.html").write_text(page)


def _context(
    request: Request,
    study: Study,
    evidence: Evidence,
    this_look: Look,
    sensitivity: Mapping[str, MetricSensitivity],
    figures_dir: Path,
) -> dict[str, Any]:
    """Return the template's values; draw the figures."""
    cells, metric, scale = request.cells, study.primary_metric, baseline_of(request).scale
    comparisons = primary_comparisons(study, cells, evidence, this_look.level)
    controls = check_controls(study, evidence)
    differences = {arm: one.difference for arm, one in comparisons.items() if one.difference.n and not one.withheld}
    unit = evidence.unit(metric)
    # The sensitivity study measures what the metric can see, and it must not withhold that.
    blind = "" if study.slug == SLUG else insensitive(metric, sensitivity, scale)
    mixed = mixed_code(study, evidence)  # then the controls are inconclusive for this reason alone
    withheld = [mixed] if mixed else [*withholding(controls, [metric]), *filter(None, [blind])]
    judged = verdicts(study, evidence, controls=controls, sensitivity=sensitivity, scale=scale, level=this_look.level)
    return {
        "study": study,
        "title": request.folder,
        "announcements": announcements(study),
        "command": shlex.join(["python", "sweeps/launch.py", *request.arguments]),
        "conclusion": conclusion(study, comparisons, unit, withheld),
        "code_note": code_note(study, evidence),
        "controls": controls,
        "all_passed": all(outcome.result == "passed" for outcome in controls),
        "compares_metrics": any(len(one.metrics) > 1 for expectations in study.claims.values() for one in expectations),
        "null_level": f"{100 * NULL_LEVEL:.0f}",
        "null_note": NULL_NOTE,
        "look": look_note(this_look),
        "sensitivity": sensitivity[metric].text if metric in sensitivity else not_measured(metric, scale),
        "power": power(study, comparisons, unit),
        "claims": tables.verdicts_table(judged),
        "margins": tables.margins_note(study),
        "mixture": mixture_table(study, evidence),
        "repeats": repeats(study, evidence),
        "credits": credits_of(baseline_of(request)),
        "setup": tables.setup_table(study, cells, evidence),
        "primary": tables.primary_table(study, evidence, comparisons, controls, is_sensitive=not blind),
        "metrics": tables.metrics_table(study, evidence),
        "warnings": warnings(study, evidence),
        "findings": findings(study, evidence),
        "cost": tables.cost_table(study, evidence),
        "equal": tables.COSTS[study.equal][0],
        "missing": tables.missing_table(evidence),
        "figures": draw_all(study, evidence, differences, figures_dir),
        "examples": tables.examples_table(study, evidence, figures_dir),
        "primary_title": tables.metric_title(study.primary_metric),
        "unit": unit,
        "evaluation": evidence.evaluation(study.primary_metric),
        "supervises_eos": cells[0].config.objective.supervise_eos,
        "level": f"{100 * this_look.level:.4f}".rstrip("0").rstrip("."),
    }


def _ladder(study: Study, ladder: Ladder | None, figures: list[str], figures_dir: Path) -> dict[str, Any]:
    """Return the template's values for the section on sensitivity; draw its figure."""
    if ladder is None:
        return {"ladder": None}
    with style():
        save(draw_ladder(ladder), figures_dir / "sensitivity.svg")
    return {
        "ladder": ladder_table(ladder),
        "decisions": decision_table(study, ladder),
        "figures": [*figures, "sensitivity"],
    }


def replace_folder(target: Path, workspace: Path, attempts: int = 20) -> None:
    """Replace the old folder by the finished one, even if other processes do so at the same time.

    Args:
        workspace: a folder on the same file system that holds the finished folder as ``new``.
    """
    for number in range(attempts):
        try:
            with contextlib.suppress(FileNotFoundError):
                target.rename(workspace / f"old-{number}")
            (workspace / "new").rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or number == attempts - 1:
                raise
        else:
            return


if __name__ == "__main__":
    sys.exit(script())
