"""A study's report: one set of tables and figures, written as Markdown and as a self-contained HTML page."""

import base64
import contextlib
import errno
import re
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from ablations.request import Request
from ablations.study import Study
from aimv2.errors import UsageError
from analysis.compare import known_differences, primary_comparisons
from analysis.conclude import (
    NULL_LEVEL,
    checked_controls,
    conclusion,
    failed_controls,
    findings,
    null_note,
    power,
    verdicts,
)
from analysis.figures import draw_all
from analysis.load import Evidence, load
from analysis.statistics import simultaneous_level
from analysis.tables import (
    METRIC_TITLES,
    cost_table,
    metrics_table,
    missing_table,
    primary_table,
    setup_table,
)


def build(request: Request, runs_dir: Path, reports_dir: Path) -> Path:
    """Write ``reports_dir/<study>/`` from the runs that were asked for: all of it or nothing.

    Returns:
        the path of ``report.md``.

    Raises:
        UsageError: the folder cannot be written.
    """
    evidence = load(request.cells, runs_dir)
    target = reports_dir / request.folder
    try:
        reports_dir.mkdir(parents=True, exist_ok=True)
        workspace = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=reports_dir))
        try:
            _write(request, evidence, workspace / "new")
            _replace(target, workspace)
        finally:
            shutil.rmtree(workspace, ignore_errors=True)
    except OSError as error:
        raise UsageError(f"the report folder {target} cannot be written: {error.strerror}") from error
    return target / "report.md"


def _write(request: Request, evidence: Evidence, folder: Path) -> None:
    study, cells = request.study.as_run(request.cells), request.cells
    folder.mkdir()
    evidence.results.to_csv(folder / "results.csv", index=False)
    comparisons = primary_comparisons(study, cells, evidence)
    controls = checked_controls(study, evidence)
    failed = failed_controls(controls)
    figures = draw_all(study, evidence, known_differences(comparisons), folder / "figures")
    examples = _write_examples(study, evidence, folder / "figures")
    unit = evidence.unit(study.primary_metric)
    context = {
        "study": study,
        "title": request.folder,
        "command": shlex.join(["python", "sweeps/launch.py", *request.arguments]),
        "conclusion": conclusion(study, {cell.arm for cell in cells}, comparisons, unit, failed),
        "controls": controls,
        "has_failed": bool(failed),
        "null_level": f"{100 * NULL_LEVEL:.0f}",
        "null_note": null_note(study, comparisons, evidence),
        "power": power(study, comparisons, unit),
        "verdicts": verdicts(study, evidence, failed),
        "setup": setup_table(study, cells, evidence),
        "primary": primary_table(study, evidence, comparisons, controls),
        "metrics": metrics_table(study, evidence),
        "findings": findings(study, evidence),
        "cost": cost_table(study, evidence),
        "missing": missing_table(evidence),
        "example_arms": [study.arms[arm].label for arm in study.arms if arm in evidence.examples],
        "examples": examples,
        "primary_title": METRIC_TITLES.get(study.primary_metric, study.primary_metric),
        "unit": unit,
        "evaluation": evidence.evaluation(study.primary_metric),
        "figures": figures,
        "supervises_eos": cells[0].config.objective.supervise_eos,
        "level": f"{100 * simultaneous_level(len(comparisons)):.2f}",
    }
    environment = Environment(
        loader=PackageLoader("analysis"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"svg": _inline_svg, "png": _inline_png, "md": _escape_markdown}
    for name in ("report.md", "report.html"):
        (folder / name).write_text(environment.get_template(f"{name}.j2").render(context, root=folder))


def _write_examples(study: Study, evidence: Evidence, folder: Path) -> list[dict[str, Any]]:
    """Example images as files, each with its caption and every arm's."""
    arms = [arm for arm in study.arms if arm in evidence.examples]
    rows: list[dict[str, Any]] = []
    for number, example in enumerate(evidence.examples[arms[0]] if arms else [], 1):
        path = folder / f"example_{number:02d}.png"
        path.write_bytes(base64.b64decode(example["png"]))
        rows.append(
            {
                "path": path,
                "reference": example["reference"],
                "written": [evidence.examples[arm][number - 1]["written"] for arm in arms],
            }
        )
    return rows


def _replace(target: Path, workspace: Path, attempts: int = 20) -> None:
    """Put the finished folder in the place of the old one, whoever else does the same at this moment."""
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


def _inline_svg(path: Path) -> str:
    """The figure's markup without its XML header, ready for a page; its width is the page's to choose.

    Every figure repeats ids such as ``clip0``, so they get the file's name in front.
    """
    text = path.read_text()
    text = text[text.index("<svg") :]
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1, flags=re.S)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1, flags=re.S)
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{path.stem}-", text)


def _inline_png(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _escape_markdown(text: str) -> str:
    """Text from captions and errors must not become markup or break a table."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", text).replace("\n", " ")
