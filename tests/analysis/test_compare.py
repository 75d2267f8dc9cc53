"""The comparison of the arms of any table of runs."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aimv2.analysis.compare import CompareOptions, differences_of, report, shows
from aimv2.analysis.report import main

OPTIONS = ["arm=recipe", "metric=top1", "baseline=base"]


def runs_of(means, seeds=5, noise=0.3, shift=0.0):
    """Return a row per arm and seed; seeds have effects of their own."""
    draws = np.random.default_rng(7)
    of_seed = draws.normal(0, 2, seeds)
    return pd.DataFrame(
        {"recipe": arm, "seed": seed, "top1": 70 + shift + mean + of_seed[seed] + draws.normal(0, noise)}
        for arm, mean in means.items()
        for seed in range(seeds)
    )


@pytest.fixture
def write(tmp_path):
    def written(runs, name="runs.csv"):
        path = tmp_path / name
        runs.to_parquet(path) if name.endswith("parquet") else runs.to_csv(path, index=False)
        return path

    return written


def numbers_of(path, **options):
    return report(path, CompareOptions(arm="recipe", metric="top1", baseline="base", **options)).numbers["arms"]


def test_two_arms_with_seeds_are_a_paired_test(write):
    runs = runs_of({"base": 0, "mixup": 1})
    (found,) = numbers_of(write(runs), seed="seed").values()
    base, mixup = (runs.loc[runs["recipe"] == arm, "top1"].to_numpy() for arm in ("base", "mixup"))
    low, high = stats.ttest_rel(mixup, base).confidence_interval(0.95)
    assert np.allclose([found["mean"], found["low"], found["high"]], [np.mean(mixup - base), low, high], rtol=1e-6)
    assert found["shows"] == "higher"


def test_without_seeds_it_is_welchs_test(write):
    runs = runs_of({"base": 0, "mixup": 1})
    (found,) = numbers_of(write(runs)).values()
    base, mixup = (runs.loc[runs["recipe"] == arm, "top1"].to_numpy() for arm in ("base", "mixup"))
    low, high = stats.ttest_ind(mixup, base, equal_var=False).confidence_interval(0.95)
    assert np.allclose([found["low"], found["high"]], [low, high], rtol=1e-6)
    assert found["shows"] == "inconclusive", "the seeds differ more than the arms"


def test_intervals_of_several_arms_hold_together(write):
    """The critical value of Dunnett for 2 arms of 4 and 12 degrees of freedom, from his table of 1955: 2.50."""
    runs = runs_of({"base": 0, "a": 0, "b": 0}, seeds=7)
    table = runs.pivot(index="seed", columns="recipe", values="top1")
    rest = table.sub(table.mean(axis=1), axis=0) - table.mean() + table.to_numpy().mean()
    error = np.sqrt((rest**2).to_numpy().sum() / 12 * 2 / 7)
    for one in numbers_of(write(runs), seed="seed").values():
        assert one["df"] == 12
        assert (one["high"] - one["low"]) / 2 / error == pytest.approx(2.50, abs=0.005)


@given(st.floats(-50, 50), st.permutations(["base", "a", "b"]))
def test_order_and_shift_do_not_matter(shift, order):
    """What is compared depends on differences alone."""
    means = {"base": 0.0, "a": 1.0, "b": 0.2}
    options = CompareOptions(arm="recipe", metric="top1", baseline="base", seed="seed")

    def values(by, runs):
        return {arm: runs.loc[runs["recipe"] == arm].set_index("seed")["top1"] for arm in by}

    plain = differences_of(values(means, runs_of(means)), options)
    for arm, one in differences_of(values(order, runs_of(means, shift=shift)), options).items():
        assert (one.mean, one.high) == pytest.approx((plain[arm].mean, plain[arm].high), abs=1e-6)
        assert shows(one, options) == shows(plain[arm], options)


def test_a_margin_tells_equivalent_from_inconclusive(write):
    path = write(runs_of({"base": 0, "same": 0}, noise=0.05))
    assert numbers_of(path, seed="seed")["same"]["shows"] == "inconclusive"
    assert numbers_of(path, seed="seed", margin=1)["same"]["shows"] == "equivalent"


def test_the_report_is_printed_and_written(write, tmp_path, capsys):
    path, out = write(runs_of({"base": 0, "mixup": 1, "none": 0}), "runs.parquet"), tmp_path / "report"
    assert main(["compare", str(path), *OPTIONS, "seed=seed", f"out={out}", "export=true"]) == 0
    assert "mixup is 1" in capsys.readouterr().out
    assert {"report.md", "report.html", "report.json", "differences.svg", "differences.csv"} <= {
        one.name for one in out.rglob("*")
    }
    answer = json.loads((out / "report.json").read_text())["answer"]
    assert answer.startswith("1 of 2 arms differ")
    assert len(answer.split()) <= 25


def test_names_of_the_table_are_text(write, tmp_path):
    runs = runs_of({"base": 0, "<script>|*$\\alpha_": 1}).rename(columns={"top1": "![x](/etc/hostname)$_"})
    out = tmp_path / "report"
    keys = ["arm=recipe", "metric=![x](/etc/hostname)$_", "baseline=base", f"out={out}"]
    assert main(["compare", str(write(runs)), *keys]) == 0
    page = (out / "report.html").read_text()
    assert "<script>|" not in page
    assert "<img" not in page


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, ["arm=recipe", "metric=top1"], "the command needs baseline=ARM"),
        (
            {},
            ["arm=recipe", "metric=top1", "baseline=bse"],
            "unknown baseline 'bse'. Did you mean 'base'? Allowed: base, mixup.",
        ),
        ({}, ["arm=recipes", "metric=top1", "baseline=base"], "has no column 'recipes', typed as arm="),
        ({"top1": "high"}, OPTIONS, "line 2: top1 is 'high', which is not a number"),
        ({"top1": ""}, OPTIONS, "has no value of top1"),
        ({"recipe": "base"}, OPTIONS, "all runs have recipe 'base'"),
        ({"seed": 0}, [*OPTIONS, "seed=seed"], "several rows with recipe 'base' and seed '0'"),
        ({}, [*OPTIONS, "margin=-1"], "margin"),
        ({"seed": ""}, [*OPTIONS, "seed=seed"], "line 2: seed is empty"),
        ({"top1": 1e300}, OPTIONS, "line 2: top1 is '1e+300', which is not a number up to 1e+150"),
    ],
)
def test_what_cannot_be_compared_is_said(change, arguments, message, write, capsys):
    path = write(runs_of({"base": 0, "mixup": 1}).assign(**change))
    assert main(["compare", str(path), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_rows_without_a_value_are_left_out_and_counted(write):
    runs = runs_of({"base": 0, "mixup": 1})
    runs["top1"] = runs["top1"].astype(object)
    runs.loc[len(runs)] = {"recipe": "mixup", "seed": 9, "top1": ""}
    text = str(report(write(runs), CompareOptions(arm="recipe", metric="top1", baseline="base")).sections)
    assert "Rows without a value of top1 were left out: 1 of mixup." in text


def test_what_shares_nothing_with_the_baseline_is_not_said_to_be_equal(write):
    runs = pd.DataFrame({"recipe": ["base", "base", "one", "one"], "seed": [0, 1, 2, 3], "top1": [1.0, 2.0, 5.0, 6.0]})
    found = report(write(runs), CompareOptions(arm="recipe", metric="top1", baseline="base", seed="seed"))
    assert found.answer.startswith("Nothing can be compared with base in top1")
    assert found.numbers["arms"]["one"]["shows"] == "too few shared seeds"


def test_too_few_runs_and_no_spread_are_told_apart(write):
    runs = pd.DataFrame({"recipe": ["base", "base", "one", "same", "same"], "top1": [1.0, 1.0, 2.0, 1.0, 1.0]})
    found = numbers_of(write(runs))
    assert (found["one"]["shows"], found["same"]["shows"]) == ("too few runs", "no spread")
