"""The seeds and hours of one margin, for the committed sensitivity studies."""

import re

import numpy as np
import pytest
from scipy import stats

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.claims import CLAIMS
from aimv2.ablations.ladder import COMMITTED, read_ladder
from aimv2.analysis.claims.power import power
from aimv2.analysis.evidence.records import read_records
from aimv2.analysis.judgement.sensitivity import sensitivity_of
from aimv2.base.errors import UsageError

FOLDER = COMMITTED / "sensitivity_laptop"


def fewest(noise, margin, tail):
    """The first number of seeds whose t interval excludes the margin in 80 of 100 cases, by a noncentral t."""
    for n in range(2, 999):
        error = np.hypot(noise.seeds / np.sqrt(n), noise.items)
        df = (n - 1) * (error**2 * n / noise.seeds**2) ** 2
        if stats.nct.sf(stats.t.isf(tail, df), df, margin / error) >= 0.8:
            return n
    raise AssertionError


def test_seeds_are_those_of_a_noncentral_t_and_hours_those_of_the_runs(capsys):
    assert power([]) == 0
    (lines,) = re.findall(r"^sensitivity_laptop: .*?(?=\n\n|\Z)", capsys.readouterr().out, re.DOTALL | re.MULTILINE)
    (found,) = re.findall(r"^  reader_loss .*$", lines, re.MULTILINE)
    prices = [(int(seeds), float(hours)) for seeds, hours in re.findall(r"(\d+) seeds, ([\d.]+) h", found)]

    seen = sensitivity_of(read_ladder(FOLDER / "sensitivity.json"))["reader_loss"]
    runs = read_records(FOLDER / "records.parquet", STUDIES).evidence.runs
    seconds = runs.loc[runs["arm"] == "base", "cpu_seconds"].mean()
    first = 0.025 / sum(bool(claim.studies) for claim in CLAIMS.values())  # half of 5 % are spent by 16 seeds
    tails = [first / 2, first, 0.025 / 2, 0.025]
    expected = [fewest(seen.noise, seen.curve.margin, tail) for tail in tails]
    assert [seeds for seeds, _ in prices] == expected
    assert [hours for _, hours in prices] == pytest.approx([2 * n * seconds / 3600 for n, _ in prices], abs=0.051)


def test_reports_without_a_sensitivity_study_are_refused(tmp_path):
    with pytest.raises(UsageError, match="has no report of a sensitivity study; write one"):
        power([f"reports_dir={tmp_path}"])
