"""The command, on files of runs."""

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from aimv2.analysis.scaling import FitOptions, main, positive_numbers, read_columns, report
from aimv2.base.errors import UsageError, escape
from tests.helpers.scaling import BESIROGLU, ladder_runs

COLUMNS = ["n=params", "d=tokens", "loss=ce"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "runs.csv"
    runs = ladder_runs(BESIROGLU, noise=0.005).rename(columns={"n": "params", "d": "tokens", "loss": "ce"})
    runs.assign(flops=6.5 * runs["params"] * runs["tokens"], note="a").to_csv(path, index=False)
    return path


def test_a_law_is_printed_and_written(table, tmp_path, capsys):
    out = tmp_path / "report"
    assert main(["fit", str(table), *COLUMNS, "seed=seed", f"out={out}"]) == 0
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("E + A n^-a + B d^-b", "optimal params", 'n is column "params"'))
    assert "![" not in printed
    names = {path.name for path in out.rglob("*")}
    assert {"report.md", "report.html", "report.json", "scaling_law.svg"} <= names
    numbers = json.loads((out / "report.json").read_text())["numbers"]
    for name, value in BESIROGLU.items():
        assert numbers["parameters"][name]["low"] < value < numbers["parameters"][name]["high"]


@pytest.mark.exhaustive
def test_names_of_columns_are_text_in_every_part_of_the_report_of_one_variable(tmp_path):
    """Neither an image that a reader's browser loads, nor a script, nor a formula, nor a column of its own."""
    size, loss = "a|b*<script>", '![x](/etc/hostname) "$\\alpha_'
    runs = pd.DataFrame({size: np.geomspace(1e6, 1e9, 7), loss: [3.9, 3.1, 2.6, 2.3, 2.1, 2.0, 1.95]})
    runs.to_csv(tmp_path / "runs.csv", index=False)
    out = tmp_path / "report"
    assert main(["fit", str(tmp_path / "runs.csv"), f"n={size}", f"loss={loss}", f"out={out}"]) == 0
    markdown, html = (out / "report.md").read_text(), (out / "report.html").read_text()
    assert f'L is column "{escape(loss)}"; n is column "{escape(size)}".' in markdown
    assert size not in markdown
    assert "](/etc" not in markdown.replace("\\]", "")
    assert "b*<script" not in html
    assert "a|b*&lt;script&gt;" in html
    assert not re.search(r"<(img|image|a)\b[^>]*/etc/hostname", html)
    ElementTree.parse(out / "figures" / "scaling_law.svg")
    assert json.loads((out / "report.json").read_text())["numbers"]["frontier"] == [], "samples are not known"


@pytest.mark.exhaustive
def test_flops_of_the_file_replace_six_n_d(table):
    options = {"n": "params", "d": "tokens", "loss": "ce"}
    six, six_and_a_half = (
        report(table, FitOptions(**options, **more)).numbers["frontier"][0] for more in ({}, {"flops": "flops"})
    )
    assert six_and_a_half["flops"] == pytest.approx(6.5 / 6 * six["flops"])
    assert six_and_a_half["n"] == pytest.approx(six["n"], rel=1e-3), "both costs are proportional to n d"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["guess"], "unknown command 'guess'"),
        (["fit"], "which file?"),
        (["fit", "n=a"], "which file?"),
        (["fit", "FILE", "loss=ce"], "which variable?"),
        (["fit", "FILE", "n=params"], "needs loss=COLUMN"),
        (["fit", "FILE", "n=size", "loss=ce"], "has no column 'size', typed as n=. It has: params, tokens, seed, ce"),
        (["fit", "FILE", "n=params", "loss=note"], "line 2: note is 'a', which is not a positive number"),
        (["fit", "FILE", "n=seed", "loss=ce"], "line 2: seed is '0', which is not a positive number"),
        (["fit", "FILE", "n=params", "loss=ce", "huber=0"], "huber: "),
        (["fit", "FILE", "n=params", "loss=ce", "bins=3"], "bins"),
        (["fit", "EMPTY", "n=n", "loss=loss"], "line 3: loss is ''"),
        (["fit", "nowhere.csv", "n=params", "loss=ce"], "nowhere.csv cannot be read as CSV"),
    ],
)
def test_bad_input_is_one_sentence(table, arguments, message, tmp_path, capsys):
    (tmp_path / "empty.csv").write_text("n, loss\n1e6, 3.0\n2e6,\n")
    files = {"FILE": str(table), "EMPTY": str(tmp_path / "empty.csv")}
    assert main([files.get(word, word) for word in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error.replace("\n", " ")
    assert "Traceback" not in error


SATURATED = ladder_runs(BESIROGLU, noise=0.005, sizes=5, samples=5, num_seeds=1).iloc[[0, 7, 14, 16, 23]]
COLLINEAR = ladder_runs(BESIROGLU, noise=0.005, sizes=12, samples=12, num_seeds=1).iloc[::13]
RISING = ladder_runs(BESIROGLU, noise=0.005).assign(loss=lambda runs: runs["loss"] * runs["n"] ** 0.1)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (SATURATED, "has 5 parameters and needs at least 9 settings, and the runs have 5; run 4 more"),
        (COLLINEAR, "n and d vary together (the correlation of their logarithms is 1.000)"),
        (RISING, "the loss rises with n, by "),
    ],
)
def test_runs_that_cannot_determine_the_law_are_refused_in_one_sentence(runs, message, tmp_path, capsys):
    path = tmp_path / "runs.csv"
    runs.to_csv(path, index=False)
    assert main(["fit", str(path), "n=n", "d=d", "loss=loss"]) == 2
    assert f"no law can be fitted to {path}: " in (error := capsys.readouterr().err.replace("\n", " "))
    assert message in error


@pytest.mark.exhaustive
def test_the_file_can_be_typed_as_a_path():
    script = Path(__file__).parents[2] / "analysis" / "scaling.py"
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: python analysis/scaling.py fit FILE")


def test_columns_are_text_without_spaces_and_missing_values_are_empty(tmp_path):
    (tmp_path / "runs.csv").write_text("Name,loss,step\na ,1.5,10\nb,,20\n")
    columns = read_columns(tmp_path / "runs.csv", {"arm": "Name", "metric": "loss", "n": "step"})
    assert columns.to_dict("list") == {"arm": ["a", "b"], "metric": ["1.5", ""], "n": ["10", "20"]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "a.csv cannot be read as CSV"),
        ("a.parquet", "PAR1\xff", "a.parquet cannot be read as CSV"),
        ("none.csv", None, "none.csv cannot be read as CSV"),
        ("a.csv", "x,y\n", "has no rows"),
        ("a.csv", "x,y\n1,2,\n", "line 2: 3 values, and the header has 2 columns"),
        ("a.csv", 'x,y\n\n"a\nb",1\n\n1\n', "line 6: 1 values, and the header has 2 columns"),
        ("a.csv", "\n\n", "it is empty"),
        ("a.csv", "x,x\n1,2\n", "has several columns 'x', typed as arm="),
    ],
)
def test_files_that_are_no_table_and_rows_that_do_not_fit_are_said(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match=message):
        read_columns(tmp_path / name, {"arm": "x"})


@pytest.mark.parametrize("text", ["no", "-1", "0", "1e300", "nan", ""])
def test_a_wrong_number_after_an_empty_line_is_named_by_its_line(tmp_path, text):
    (tmp_path / "a.csv").write_text(f"x,y\n1,1\n\n{text},1\n")
    texts = read_columns(tmp_path / "a.csv", {"n": "x"})["n"]
    with pytest.raises(UsageError, match=f"line 4: x is '{text}', which is not a positive number up to"):
        positive_numbers(tmp_path / "a.csv", texts, "x")
