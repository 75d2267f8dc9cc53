"""The ablation tables of the paper, from ``paper_tables.yaml``, with our counterpart of each row."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from aimv2.ablations.claims import CLAIMS
from aimv2.base.errors import UsageError, unknown
from aimv2.base.files import read_yaml
from aimv2.config.data_config import CHECKED

FILE = Path(__file__).with_name("paper_tables.yaml")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Row:
    """A published single run.

    Attributes:
        values: of the table's metrics, in percent.
        arm: of the table's study; empty if it has no such arm.
    """

    condition: str
    values: tuple[float, ...]
    arm: str = ""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class PaperTable:
    """A published table.

    Attributes:
        claims: those that rest on it.
        metrics: the first is the one that our probe stands in for.
        reference: the condition with which the others are compared.
        study: ours; empty if there is none.
    """

    id: str
    title: str
    claims: tuple[str, ...]
    metrics: tuple[str, ...]
    reference: str
    rows: tuple[Row, ...]
    study: str = ""

    def __post_init__(self) -> None:
        if self.reference not in [row.condition for row in self.rows]:
            raise ValueError(f"{self.id}: reference {self.reference!r} is no row")
        for row in self.rows:
            if len(row.values) != len(self.metrics):
                raise ValueError(
                    f"{self.id}: {row.condition} has {len(row.values)} values and there are {len(self.metrics)} metrics"
                )
            if row.arm and not self.study:
                raise ValueError(f"{self.id}: {row.condition} has an arm, and the table no study")

    @property
    def differences(self) -> Mapping[str, tuple[float, ...]]:
        """By condition, the published differences from the reference, in points."""
        base = next(row.values for row in self.rows if row.condition == self.reference)
        return {
            row.condition: tuple(round(value - other, 3) for value, other in zip(row.values, base, strict=True))
            for row in self.rows
        }


def read_tables(path: Path) -> list[PaperTable]:
    """Return the tables of a file, in its order.

    Raises:
        UsageError: the file is not YAML, a key is unknown or missing, a value is not allowed, or a claim is unknown.
    """
    values = read_yaml(path)
    try:
        tables = TypeAdapter(dict[str, list[PaperTable]]).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}") from error
    if set(tables) != {"tables"}:
        raise UsageError(f"{path} must have one key, tables")
    for table in tables["tables"]:
        if wrong := [claim for claim in table.claims if claim not in CLAIMS]:
            raise unknown(f"claim of {table.id}", wrong[0], CLAIMS)
    return tables["tables"]


@cache
def paper_tables() -> list[PaperTable]:
    return read_tables(FILE)
