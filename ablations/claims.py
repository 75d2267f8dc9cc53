"""The claims of the paper, from ``claims.yaml``, and its ablation tables, from ``paper_tables.yaml``.

Studies say what must be observed if a claim holds; docs/statistics.md says what contradicts it.
"""

from collections.abc import Mapping
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from aimv2.base.files import read_yaml
from aimv2.config.arguments import checked
from aimv2.config.data_config import CHECKED

FILE = Path(__file__).with_name("claims.yaml")
TABLES = Path(__file__).with_name("paper_tables.yaml")

# "partly measured": some of the conditions, and "claimed" says which are missing. "uncontrolled": the compared models
# differ in more than the claim is about. "numbers not found": measured in a source whose numbers we do not have.
Basis = Literal[
    "measured once", "partly measured", "uncontrolled", "plotted only", "numbers not found", "asserted", "not claimed"
]

# What a claim is about. A metric decides it if it sees the certain effects of that kind (sweep=sensitivity): what words
# or pixels teach, less width or depth, larger encoders, how much of an image is read, and the number of samples.
Kind = Literal["words", "pixels", "width", "depth", "larger", "attention", "samples"]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Claim:
    """A statement of AIMv2 (arXiv 2411.14402) or AIM v1 (arXiv 2401.08541), its source, and what would contradict it.

    Attributes:
        group: the part of the papers under which the file lists it.
        source: the table, figure or section.
        published: by metric, the value of each condition; each score is that of a single run.
        contradicted_by: ``any``: one expectation that is contradicted, or smaller than claimed, makes the claim so;
            ``all``: only all of them do.
        evidence: what the source has for it.
        studies: those that judge it, the one to run first in front; ``kinds`` is what these claims are about.
        not_testable: why it cannot be judged here: hardware, data or models that we lack.
        no_study: what would have to be built to judge it.
        measured_by: by study, what its report measures of a claim on which no verdict is drawn.
        limits: which part of the claim is not judged, or how the studies differ from the paper.
        part_of: the claim of which this is a part that is judged by itself.
    """

    id: str
    group: str
    source: str
    statement: str
    claimed: str
    contradicted_if: str
    evidence: Basis
    contradicted_by: Literal["any", "all"] = "any"
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    studies: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    not_testable: str = ""
    no_study: str = ""
    measured_by: Mapping[str, str] = field(default_factory=dict)
    limits: str = ""
    part_of: str = ""

    @property
    def why_not(self) -> str:
        """Why no study judges it; empty if one does."""
        return self.not_testable or self.no_study


def _read_claims() -> dict[str, Claim]:
    """Return the claims by id, in the order of the file. Its tests say what claims must have."""
    entries = [{**entry, "group": group} for group, claims in read_yaml(FILE).items() for entry in claims]
    claims: list[Claim] = [checked(f"{FILE}, claim {entry.get('id', '?')}", Claim, entry) for entry in entries]
    return {claim.id: claim for claim in claims}


CLAIMS = _read_claims()


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Row:
    """A published single run: values of the table's metrics in percent, and our arm; empty if we have none."""

    condition: str
    values: tuple[float, ...]
    arm: str = ""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class PaperTable:
    """A published table."""

    id: str
    title: str
    claims: tuple[str, ...]  # those that rest on it
    metrics: tuple[str, ...]  # the first is the one that our probe stands in for
    reference: str  # the condition with which the others are compared
    rows: tuple[Row, ...]
    study: str = ""  # ours; empty if there is none

    @property
    def differences(self) -> Mapping[str, tuple[float, ...]]:
        """By condition, the published differences from the reference, in points."""
        base = next(row.values for row in self.rows if row.condition == self.reference)
        return {
            row.condition: tuple(round(value - other, 3) for value, other in zip(row.values, base, strict=True))
            for row in self.rows
        }


@cache
def paper_tables() -> list[PaperTable]:
    return [
        checked(f"{TABLES}, table {entry.get('id', '?')}", PaperTable, entry) for entry in read_yaml(TABLES)["tables"]
    ]
