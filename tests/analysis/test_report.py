"""Reports from runs whose numbers are known."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import expand
from aimv2.ablations.recorded_runs import FILE
from aimv2.ablations.request import Request, write_request
from aimv2.ablations.searches import path_of
from aimv2.ablations.study import WINNER
from aimv2.analysis import report
from aimv2.analysis.document.pages import to_markdown
from aimv2.analysis.evidence.records import Records, pack, records_of
from aimv2.analysis.evidence.run_files import load
from aimv2.analysis.inference.looks import Look, looks_path, next_look
from aimv2.analysis.judgement.findings import findings_of
from aimv2.analysis.report import build
from aimv2.analysis.sections.metrics import look_note
from aimv2.analysis.sections.study import document
from aimv2.base.errors import UsageError
from aimv2.config.program import replaced
from aimv2.runs.failure import Failure
from aimv2.runs.record import RunFolder
from tests.helpers.evidence import write_run
from tests.helpers.ladders import HARMS, ladder_of, read_sensitivity, seeing, write_ladder
from tests.helpers.searches import request_of_search, typical, won_by_the_baseline, write_confirmation
from tests.helpers.specimen import STUDY


@pytest.fixture(scope="module")
def records(request_of, evidence):
    """The content of a file of records."""
    return pack(Records(request_of, evidence, Look(1, 16)))


@pytest.fixture(scope="module")
def folder(request_of, runs_dir, tmp_path_factory):
    """A report of all runs; read only."""
    return build(request_of, runs_dir, tmp_path_factory.mktemp("reports")).parent


def text_of(request, folder):
    """Return a report of the runs in a folder, with the sensitivity of the reports in it."""
    return to_markdown(document(findings_of(records_of(request, folder), folder / "reports"), {}))


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_markdown_refers_to_files_that_exist(folder):
    found = re.findall(r"\]\(([^\s#)]+\.\w+)[#)]", (folder / "report.md").read_text())
    assert {"figures/differences.svg", "figures/examples.svg", "../index.md"} <= set(found)
    assert all((folder / file).exists() for file in found)


@pytest.mark.exhaustive
def test_check_names_pages_that_differ_from_their_records(request_of, runs_dir, tmp_path, capsys):
    places = [f"reports_dir={tmp_path}", f"runs_dir={runs_dir}"]
    code = (
        "import sys\nfrom aimv2.analysis.report import script\nassert script() == 0\nassert 'torch' not in sys.modules"
    )
    root = Path(report.__file__).parents[1]
    command = [sys.executable, "-c", code, request_of.folder, *places]
    subprocess.run(command, check=True, cwd=tmp_path, env={"PYTHONPATH": str(root)}, stdout=subprocess.DEVNULL)
    folder = tmp_path / request_of.folder
    assert report.main([folder.name, f"reports_dir={tmp_path}", "--check"]) == 0
    assert f"every file of 1 report in {tmp_path} is what the records give" in capsys.readouterr().out
    values = (folder / "report.json").read_text()
    moved = values.replace('"low":-0.4', '"low":-0.5', 1)
    assert moved != values
    (folder / "report.json").write_text(moved)
    (folder / "extra.txt").write_text("")
    capsys.readouterr()
    assert report.main([folder.name, f"reports_dir={tmp_path}", "--check"]) == 1
    first, why, second, number = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{folder / 'extra.txt'} is not what the records give")
    assert second.startswith(f"{folder / 'report.json'} is not what the records give"), "all others are the same"
    assert why == "  The report has no such file."
    assert re.fullmatch(r'  Line \d+: .*"low":-0\.5\d+ is now -0\.4\d+ \(\+\d+ %\)', number)
    assert (folder / "report.json").read_text() == moved, "nothing was written"


@pytest.mark.exhaustive
def test_check_of_all_refuses_reports_without_records(tmp_path, capsys):
    for name in ("sensitivity", "verify"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.md").write_text("numbers")
    assert report.main(["all", f"reports_dir={tmp_path}", "--check"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path / 'sensitivity'} has a report without records.parquet")
    assert line.endswith(f"python analysis/report.py sensitivity reports_dir={tmp_path}")


def test_records_of_another_report_do_not_overwrite_it(records, tmp_path, capsys):
    (tmp_path / "loss_weight").mkdir()
    (tmp_path / "loss_weight" / FILE).write_bytes(records)
    (tmp_path / "prefix_ratio_test").mkdir()
    for flag in ("--from-records", "--check"):
        assert report.main(["loss_weight", f"reports_dir={tmp_path}", flag]) == 2
        assert f"loss_weight/{FILE} has the records of 'prefix_ratio_test'" in capsys.readouterr().err
    assert list((tmp_path / "prefix_ratio_test").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs_dir=runs"], "which report? Name one: sensitivity, prefix_ratio"),
        (["prefix_ratio", "loss_weight"], "which report? Name one"),
        (["prefix_rati", "--from-records"], "unknown report 'prefix_rati'. Did you mean 'prefix_ratio'"),
        (["chek"], "unknown report 'chek'. Did you mean 'check'"),
        (["prefix_ratio", "run_dir=x"], "Did you mean 'runs_dir'?"),
        (["prefix_ratio", "export=tru"], "export: "),
        (["unpack"], "unpack what, and where?"),
        (["unpack", "a.zip"], "unpack what, and where?"),
        (["unpack", "nowhere.zip", "to=out"], "nowhere.zip cannot be unpacked: No such file"),
        (["prefix_ratio", "--from-record"], "unknown option '--from-record'. Did you mean '--from-records'?"),
        (["prefix_ratio", "runs_dir=nowhere"], "was not launched into 'nowhere'"),
        (["prefix_ratio", "reports_dir=nowhere", "--from-records"], "nowhere/prefix_ratio/records.parquet"),
    ],
)
def test_command_refuses_wrong_arguments(arguments, message, capsys):
    assert report.main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.exhaustive
def test_committed_records_are_read_where_own_reports_have_none(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = folder.name
    shutil.copytree(folder, tmp_path / "reports" / "published" / name)
    assert report.main([name, "--from-records", "export=true"]) == 0
    assert capsys.readouterr().out.strip() == f"reports/published/{name}/report.md"
    assert (tmp_path / "reports" / "published" / name / "results.csv").exists()
    assert report.main(["index", "--from-records"]) == 0
    assert capsys.readouterr().out.strip() == "reports/published/index.md"
    shutil.copytree(folder, tmp_path / "reports" / name)
    assert report.main([name, "--from-records"]) == 0
    assert capsys.readouterr().out.strip() == f"reports/{name}/report.md"


@pytest.mark.exhaustive
def test_a_broken_report_beside_it_leaves_a_new_one_without_index(request_of, runs_dir, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / FILE).write_text("no records")
    assert build(request_of, runs_dir, tmp_path).exists()
    assert f"was not written: {tmp_path / 'other' / FILE} is not a file of records" in capsys.readouterr().err
    assert not (tmp_path / "index.md").exists()


@pytest.mark.exhaustive
def test_missing_cells_are_listed_with_their_reason(cells, request_of, tmp_path):
    some = [cell for cell in cells if cell.arm in ("uniform", "causal") and cell.seed < 3]
    for cell in some:
        if (cell.arm, cell.seed) == ("causal", 1):
            with RunFolder(tmp_path, cell.name).acquire(cell.config) as attempt:
                attempt.fail(Failure("not finite", "text_loss is nan at step 7 | <script>"), "")
        elif cell.seed < 2:
            write_run(cell, tmp_path, 3.0)
    path = build(replace(request_of, cells=some), tmp_path, tmp_path / "reports")
    text, page = path.read_text(), (path.parent / "report.html").read_text()
    assert "> Incomplete, 3 of 6 runs are missing: Nothing is " in text
    assert "not run yet" in text
    assert r"text\_loss is nan at step 7 \| \<script\>" in text
    assert "text_loss is nan at step 7 | &lt;script&gt;" in page


def test_report_says_which_look_it_is_and_again_for_the_same_seeds(cells, request_of, tmp_path):
    def text(num_seeds):
        some = [cell for cell in cells if cell.seed < num_seeds]
        for cell in some:
            if not RunFolder(tmp_path, cell.name).is_done:
                write_run(cell, tmp_path, 3.0 + 0.01 * cell.seed)
        return look_note(records_of(replace(request_of, cells=some), tmp_path).look)

    assert "This is look 1 at the study, so all that decides has the level 99.5 %" in text(2)
    for _ in range(2):
        assert "This is look 2 at the study (earlier: seeds 0, 1), so all that decides has the level 99.375 %" in text(
            4
        )


@pytest.mark.exhaustive
def test_conclusion_waits_for_the_sensitivity_of_the_primary_metric(cells, request_of, tmp_path):
    for number, cell in enumerate(cells):
        effect = {"positive_control": 1.0, "causal": 0.5}.get(cell.arm, 0.0)
        write_run(cell, tmp_path, 3 + effect + 0.01 * np.sin(number))
    text = text_of(request_of, tmp_path)
    assert "not judged: the metric is not sensitive" in text
    assert text.count("**not testable**") == 3 * 2, "beside the answer, in the summary and in the details"
    config = next(cell.config for cell in cells if cell.arm == "uniform")
    write_ladder(tmp_path / "reports", ladder_of(seeing("content_loss"), config), "sensitivity_test")
    text = text_of(request_of, tmp_path)
    assert "not judged" not in text


@pytest.mark.exhaustive
def test_seeds_of_different_code_are_not_pooled_as_one_arm_unless_the_study_allows_it(cells, request_of, tmp_path):
    for number, cell in enumerate(cells):
        value = (0.988, 0.496, 0.252)[min(cell.seed, 2)] + {"positive_control": 1.0, "causal": 0.1}.get(cell.arm, 0.0)
        value += 1e-4 * np.sin(number)
        write_run(cell, tmp_path, value, code=("aaaaaaaaaaaa", "bbbbbbbbbbbb", None)[min(cell.seed, 2)])

    text = text_of(request_of, tmp_path)
    codes = "aaaaaaaaaaaa (8 runs), bbbbbbbbbbbb (8 runs), not recorded (16 runs)"
    assert f"The runs are of different code: {codes}." in text
    assert "sweep.allow_mixed_code=true" in text
    assert text.count("<br>the runs are of 3 codes") >= len(STUDY.claims) + len(STUDY.arms) - 1, "claims and arms"
    assert text.count("**not testable**") == 3 * len(STUDY.claims)
    assert text.count(": **inconclusive**. the runs are of 3 codes.") == 4, "two controls in two metrics"
    assert "Differences from the baseline are not tested" in text
    assert "withheld: different code" in text
    assert set(load(request_of.cells, tmp_path).results["code"]) == {"a" * 12, "b" * 12, ""}
    text = text_of(replace(request_of, study=replace(STUDY, allow_mixed_code=True)), tmp_path)
    assert (
        "not recorded (16 runs). Verdicts are drawn from the mixture, as sweep.allow_mixed_code=true requests." in text
    )
    assert "withheld: " not in text
    assert "the runs are of 3 codes, which the sweep allows" in text, "it stands beside the numbers that it limits"


@pytest.mark.exhaustive
def test_report_of_a_search_is_built_from_its_file_and_again_from_its_records(tiny, tmp_path, capsys):
    request, reports = request_of_search(tiny), tmp_path / "reports"
    write_confirmation(request, tmp_path)
    write_request(tmp_path, request)
    path = path_of(tmp_path, request.folder)
    arguments = [request.folder, f"reports_dir={reports}"]
    assert report.main([*arguments, f"runs_dir={tmp_path}"]) == 2
    assert f"{path} cannot be read" in capsys.readouterr().err, "trials were not recorded"
    path.parent.mkdir()
    path.write_text(json.dumps(typical() | {"version": 2}))
    assert report.main([*arguments, f"runs_dir={tmp_path}"]) == 2
    assert "is a search of version 2, and this code reads version 1" in capsys.readouterr().err
    path.write_text(json.dumps(typical()))
    assert report.main([*arguments, f"runs_dir={tmp_path}"]) == 0
    path.unlink()
    assert report.main([*arguments, "--check"]) == 0
    found = files(reports / request.folder)
    assert "Nothing is concluded, because the sensitivity was not measured" in found["report.md"].decode()


@pytest.mark.exhaustive
def test_a_search_that_the_baseline_won_spends_no_look(tiny, tmp_path):
    alone, both = request_of_search(tiny, has_winner=False), request_of_search(tiny)
    path = path_of(tmp_path, alone.folder)
    path.parent.mkdir()
    path.write_text(json.dumps(won_by_the_baseline()))
    write_confirmation(alone, tmp_path)
    text = build(alone, tmp_path, tmp_path / "reports").read_text()
    assert "which is the baseline itself" in text
    assert next_look(looks_path(tmp_path, alone.folder), 8).number == 1
    path.write_text(json.dumps(typical()))
    build(both, tmp_path, tmp_path / "reports")
    assert next_look(looks_path(tmp_path, alone.folder), 8).number == 1, "the winner has no run yet"
    write_confirmation(replace(both, cells=[cell for cell in both.cells if cell.arm == WINNER]), tmp_path)
    assert look_note(records_of(both, tmp_path).look).startswith("This is look 1 at the study, so")
    assert next_look(looks_path(tmp_path, alone.folder), 8).number == 2


@pytest.mark.exhaustive
def test_sensitivity_study_writes_what_verdicts_read(tiny, tmp_path):
    study, rungs = STUDIES["sensitivity"], HARMS
    cells = expand(study, replaced(tiny, {"budget.samples": 64}), seeds=range(3))
    noises = np.random.default_rng(0).normal(size=len(cells))
    for cell, noise in zip(cells, noises, strict=True):
        write_run(cell, tmp_path, 3.0 + rungs.get(cell.arm, 0) + 0.01 * noise)
    request = Request(study=study, cells=cells, arguments=("sweep=sensitivity",))
    reports = tmp_path / "reports"
    path = build(request, tmp_path, reports)
    assert "not judged" not in path.read_text(), "it measures the sensitivity, and does not wait for it"
    text = path.read_text()
    assert "Sensitivity: content_loss sees at scale test: 0.25 x the samples, " in text
    other_seed = replaced(cells[0].config, {"seed": 9, "device": "cuda"})
    assert not read_sensitivity(reports, other_seed)["content_loss"].is_blind
    causal = replaced(other_seed, {"prefix": {"law": "causal"}})
    assert read_sensitivity(reports, causal) == {}


def test_a_result_of_another_layout_is_named_and_the_old_report_stays(cells, request_of, tmp_path):
    write_run(cells[0], tmp_path, 3.0)
    content = '{"layout_version": 0, "attempt": 1, "metrics": {}}'
    (tmp_path / cells[0].name / "result.json").write_text(content)
    old = tmp_path / "reports" / request_of.folder / "report.md"
    old.parent.mkdir(parents=True)
    old.write_text("the old report")
    with pytest.raises(UsageError, match="has layout 0 and this version reads layout 2"):
        build(request_of, tmp_path, tmp_path / "reports")
    assert old.read_text() == "the old report"
    assert list((tmp_path / "reports").iterdir()) == [old.parent]
