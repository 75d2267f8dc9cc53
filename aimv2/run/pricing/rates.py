"""Prices of hardware by the hour, from a table that its user writes. No price is known without one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aimv2.base.errors import UsageError, short
from aimv2.base.files import read_yaml
from aimv2.runs.record import Hours

CORE = "cpu core"
RATE = re.compile(r"(\d+\.?\d*|\.\d+) ?([A-Z]{3})/h")
FORM = f"such as 'NVIDIA H100: 2.5 EUR/h' or '{CORE}: 0.03 EUR/h'"


@dataclass(frozen=True)
class Rates:
    """What an hour costs.

    Attributes:
        currency: three letters.
        names: of GPUs, as the beginning or a part of the name that the driver reports, and ``cpu core``.
        per_hour: the price of each.
    """

    currency: str
    names: tuple[str, ...]
    per_hour: tuple[float, ...]

    def cost(self, hardware: str, hours: Hours) -> float | None:
        """Return what these hours cost; None if the hardware has no rate."""
        if not any(hours):  # an attempt that ended at once
            return 0.0
        rate = self._rate(CORE if hours.core else hardware)
        return None if rate is None else rate * (hours.gpu + hours.core)

    def lacking(self, hardware: str, hours: Hours) -> str:
        """Return the name under which the table has no rate."""
        return CORE if hours.core else hardware or "hardware that is not known"

    def _rate(self, hardware: str) -> float | None:
        """Return the rate of the longest name that the hardware's has."""
        found = [
            (len(name), rate) for name, rate in zip(self.names, self.per_hour, strict=True) if _has(hardware, name)
        ]
        return max(found)[1] if found else None


def _has(hardware: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", hardware, re.IGNORECASE) is not None


def read_rates(path: Path) -> Rates:
    """Read a table of rates: a YAML file with the key ``rates``, all in one currency.

    Raises:
        UsageError: the file cannot be read, or a rate has another form or another currency.
    """
    table = read_yaml(path).get("rates")
    if not isinstance(table, Mapping) or not table:
        raise UsageError(f"{path} must have the key rates with a price for each name, {FORM}")
    found: dict[str, tuple[float, str]] = {}
    for name, text in table.items():
        match = RATE.fullmatch(str(text).strip())
        if match is None or not str(name).strip():
            raise UsageError(f"{path}: cannot read the rate {short(name)}: {short(text)}; it has a form {FORM}")
        found[str(name).strip()] = (float(match[1]), match[2])
    if len(currencies := {currency for _, currency in found.values()}) > 1:
        raise UsageError(f"{path} has rates in {' and '.join(sorted(currencies))}; one currency is allowed")
    return Rates(currencies.pop(), tuple(found), tuple(rate for rate, _ in found.values()))
