"""A study's report: one set of tables and figures, written as Markdown and as a self-contained HTML page."""

import base64
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from ablations.study import Cell, Study, read_cells
from aimv2.errors import UsageError
from analysis.conclude import conclusion, findings, verdicts
from analysis.figures import draw_all
from analysis.load import Evidence, load
from analysis.statistics import Estimate, paired_difference, simultaneous_level
from analysis.tables import (
    METRIC_TITLES,
    cost_table,
    metrics_table,
    missing_table,
    primary_table,
    setup_table,
)


def build(study: Study, runs_dir: Path, reports_dir: Path) -> Path:
    """Write ``reports_dir/<slug>/`` from the runs of the study's last launch: all of it or nothing.

    Returns:
        the path of ``report.md``.

    Raises:
        UsageError: the study was never launched, or the folder cannot be written.
    """
    cells = read_cells(runs_dir, study)
    evidence = load(cells, runs_dir)
    target = reports_dir / study.slug
    try:
        reports_dir.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{study.slug}-", dir=reports_dir))
        try:
            _write(study, cells, evidence, partial)
            partial.chmod(0o755)
            _replace(target, partial)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise UsageError(f"the report folder {target} cannot be written: {error.strerror}") from error
    return target / "report.md"


def _write(study: Study, cells: list[Cell], evidence: Evidence, folder: Path) -> None:
    evidence.results.to_csv(folder / "results.csv", index=False)
    differences = primary_differences(study, evidence)
    figures = draw_all(study, evidence, differences, folder / "figures")
    examples = _write_examples(study, evidence, folder / "figures")
    unit = evidence.unit(study.primary_metric)
    context = {
        "study": study,
        "conclusion": conclusion(study, differences, unit),
        "verdicts": verdicts(study, differences),
        "setup": setup_table(study, cells, evidence),
        "primary": primary_table(study, evidence, differences),
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
        "level": f"{100 * simultaneous_level(len(study.arms) - 1):.2f}",
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


def primary_differences(study: Study, evidence: Evidence) -> dict[str, Estimate]:
    """Each arm minus the baseline in the primary metric, with intervals that hold all at once."""
    values = evidence.values(study.primary_metric)
    others = [arm for arm in study.arms if arm != study.baseline]
    found = {arm: paired_difference(values, arm, study.baseline, simultaneous_level(len(others))) for arm in others}
    return {arm: difference for arm, difference in found.items() if difference is not None}


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


def _replace(target: Path, source: Path) -> None:
    """Put a finished folder in the place of the old one."""
    old = source.with_name(source.name + ".old")
    if target.exists():
        target.rename(old)
    source.rename(target)
    shutil.rmtree(old, ignore_errors=True)


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
