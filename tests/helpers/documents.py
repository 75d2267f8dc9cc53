"""Parts of documents, and findings with changed evidence."""

from dataclasses import replace

from aimv2.analysis.document.model import Section, Table, walk
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.findings import judge
from tests.helpers.evidence import sensitive


def lines_of(cell):
    """Return the lines of a cell."""
    return tuple(cell.split("<br>"))


def number_of(cell):
    """Return the number at the beginning of a cell."""
    return float(cell.replace(",", "").split()[0].removesuffix("%"))


def tables(section):
    """Return the tables of a section by name."""
    return {block.name: block for block in walk([section]) if isinstance(block, Table)}


def text_of(section):
    """Return the paragraphs and lists of a section as one text."""
    blocks = [block for block in walk([section]) if not isinstance(block, Section)]
    parts = [getattr(block, "text", "") or "\n".join(getattr(block, "items", [])) for block in blocks]
    return "\n".join(filter(None, parts))


def by_row(table):
    """Return a table as dicts of lines by the first line of a row and by column."""
    rows = ([lines_of(cell) for cell in row] for row in table.rows)
    return {row[0][0]: dict(zip(table.columns, row, strict=True)) for row in rows}


def changed(findings, **parts):
    """Return findings with other parts, such as their evidence, without judging them again."""
    of_reasons = {name: parts.pop(name) for name in ("study", "evidence", "controls", "sensitivity") if name in parts}
    return replace(findings, reasons=replace(findings.reasons, **of_reasons), **parts)


def judged_again(findings, evidence, *, study=None, seen=None):
    """Return findings from other evidence, or of another study; ``seen`` replaces the sensitivity."""
    request = findings.request if study is None else replace(findings.request, study=study)
    metrics = (study or findings.study).deciding_metrics
    return judge(request, evidence, Look(1, 16), sensitive(*metrics) if seen is None else seen)


def at_scale(findings, evidence, *, scale, samples):
    """Return findings of other evidence, as if the runs were of this scale and number of samples."""
    config = findings.config
    config = replace(config, scale=scale, budget=replace(config.budget, samples=samples))
    cells = [replace(cell, config=config) for cell in findings.request.cells]
    return changed(findings, request=replace(findings.request, cells=cells), evidence=evidence)
