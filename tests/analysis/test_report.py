"""Reports from runs whose numbers are known."""

import multiprocessing
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ablations.request import Request
from ablations.studies.prefix_ratio import STUDY
from ablations.study import UNTRAINED
from aimv2.errors import UsageError
from aimv2.evaluation.metrics import Metric
from aimv2.runs.failure import Failure
from aimv2.runs.files import write_json
from aimv2.runs.record import RunFolder
from analysis.compare import Comparison, primary_comparisons
from analysis.conclude import checked_controls, conclusion, failed_controls, findings, null_note, power, verdicts
from analysis.load import load
from analysis.report import build
from analysis.statistics import NOTHING_FOUND, Estimate, judge
from analysis.tables import cost_table, metrics_table, primary_table

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
EFFECT = {"uniform": 0.0, "fixed_25": 0.0, "fixed_50": 0.0, "fixed_75": 0.5, "causal": -0.4, UNTRAINED: 4.0}
EFFECT |= {"null_control": 0.0, "positive_control": 1.0}


def request(cells):
    return Request(study=STUDY, cells=cells, arguments=("sweep=prefix_ratio", "sweep.arms=[uniform,causal]"))


def finish(cell, runs_dir, value, *, caption="red apple", causal=0.0):
    """A run folder as a run leaves it, with a chosen result."""
    config = cell.config
    with RunFolder(runs_dir, cell.name).acquire(config) as attempt:
        manifest = {
            "threads": 1, "hardware": "a test", "commit": "abc", "versions": {"torch": "2"},
            "parameters": {"encoder": 1000, "decoder": 2000}, "train_pairs": 10, "held_out_pairs": 5,
        }  # fmt: skip
        attempt.write_manifest(manifest)
        if config.budget.samples:
            losses = np.linspace(value + 2, value, 5)
            rows = [
                {"step": i, "samples": 4 * i, "train_flops": i, "seconds": float(i), "held_out_caption_loss": loss}
                for i, loss in enumerate(losses)
            ]
            attempt.write_rows(rows)
        write_json(
            attempt.folder / "examples.json", [{"key": "k", "reference": "apple", "written": caption, "png": PIXEL}]
        )
        metrics = {
            "caption_loss": Metric(value, "nats/token", "some pairs"),
            "causal_caption_loss": Metric(value + causal, "nats/token", "some pairs"),
            "pixel_loss_0.5": Metric(value / 10, "squared error", "some pairs"),
            "probe_digits": Metric(0.5, "accuracy", "some digits"),
            "knn_digits": Metric(0.4, "accuracy", "some digits"),
            "recall": Metric(None, "accuracy", "not applicable to anything"),
            "bits": Metric(None if cell.arm == "causal" else 1.5, "bits/byte", "some pairs"),
        }
        attempt.publish(metrics, train_flops=100, train_seconds=1.0)


@pytest.fixture
def cells(tiny):
    return STUDY.cells(tiny, seeds=range(4))


@pytest.fixture
def runs_dir(cells, tmp_path):
    rng = np.random.default_rng(0)
    shared = (-1.5, -0.5, 0.5, 1.5)  # what a seed does to every arm: pairing must remove it
    for cell in cells:
        finish(cell, tmp_path, 3 + shared[cell.seed] + EFFECT[cell.arm] + rng.normal(0, 0.01))
    return tmp_path


@pytest.fixture
def evidence(cells, runs_dir):
    return load(cells, runs_dir)


def test_the_tables_hold_what_the_runs_recorded(evidence, cells):
    assert len(evidence.runs) == len(cells) == 32
    assert set(evidence.metrics["metric"]) == {
        "caption_loss",
        "causal_caption_loss",
        "pixel_loss_0.5",
        "probe_digits",
        "knn_digits",
        "bits",
    }
    assert evidence.values("caption_loss").shape == (4, 8)
    assert evidence.missing.empty
    assert evidence.unit("caption_loss") == "nats/token"
    assert len(evidence.results) == 32
    assert "caption_loss [nats/token]" in evidence.results


def test_what_an_arm_cannot_have_is_not_applicable_and_never_a_number(evidence):
    table = metrics_table(STUDY, evidence)
    row = next(row for row in table.rows if row[0][0] == "bits")
    shown = dict(zip(table.columns, row, strict=True))
    assert shown["causal, M = 1"] == "not applicable"
    assert shown["uniform on 1..I-1"] == ["1.500 (no interval)"]
    assert not any("recall" in row[0][0] for row in table.rows), "what no arm can have is no row"
    assert "causal" not in evidence.values("bits")


def test_pairing_finds_effects_that_the_seeds_would_hide(cells, evidence):
    comparisons = primary_comparisons(STUDY, cells, evidence)
    assert comparisons.keys() == {"fixed_25", "fixed_50", "fixed_75", "causal"}
    assert comparisons["fixed_75"].difference.excludes_zero
    assert comparisons["fixed_75"].difference.mean == pytest.approx(0.5, abs=0.02)
    assert not comparisons["fixed_25"].difference.excludes_zero
    unpaired = evidence.values("caption_loss").std()
    assert unpaired.min() > 0.5, "the seeds differ by more than any arm"


def test_without_pairing_the_same_numbers_are_compared_by_their_means(cells, evidence):
    study = replace(STUDY, pairing="none")
    values = evidence.values("caption_loss")
    for arm, one in primary_comparisons(study, cells, evidence).items():
        expected = stats.ttest_ind(values[arm], values["uniform"], equal_var=False).confidence_interval(0.9875)
        assert (one.difference.low, one.difference.high) == pytest.approx((expected.low, expected.high))
        assert one.found.word == "undecided"


@pytest.mark.parametrize(
    ("mean", "error", "expected", "word", "met"),
    [
        # What 0.02 and the standard error make of a difference in a loss, with so many seeds that t is the normal's.
        (0.100, 0.0100, "worse", "different: worse", "as expected"),
        (0.100, 0.0100, "better", "different: worse", "not as expected"),
        (0.100, 0.0100, "equal", "different: worse", "not as expected"),
        (0.100, 0.0100, "open", "different: worse", ""),
        (0.005, 0.0010, "equal", "smaller than matters: worse", "as expected"),
        (0.005, 0.0010, "worse", "smaller than matters: worse", "not as expected"),
        (0.001, 0.0050, "equal", "equivalent", "as expected"),
        (0.001, 0.0050, "worse", "equivalent", "not as expected"),
        (0.001, 0.0500, "equal", "undecided", "undecided"),
        (0.050, 0.0500, "worse", "undecided", "undecided"),
        (0.050, 0.0000, "equal", "undecided", "undecided"),
    ],
)
def test_what_was_expected_is_held_to_what_was_shown(mean, error, expected, word, met):
    estimate = Estimate(mean, error, 1e6, 10**6)
    compared = Comparison(estimate, judge(estimate, 0.02, lower_is_better=True), expected)
    assert (compared.found.word, compared.met) == (word, met)


def test_the_conclusion_says_what_the_intervals_show(cells, evidence):
    sentence = conclusion(STUDY, STUDY.arms, primary_comparisons(STUDY, cells, evidence), "nats/token")
    assert "fixed at 75 % is worse by 0." in sentence
    assert "causal, M = 1 is better by 0." in sentence
    assert "for fixed at 25 %, fixed at 50 %, neither a difference nor that none matters could be shown" in sentence
    assert sentence.count(". ") == 0
    assert sentence.endswith(".")


def shown(mean, error, *, n=4, df=30):
    estimate = Estimate(mean, error, df, n)
    return Comparison(estimate, judge(estimate, STUDY.equivalence_margin, lower_is_better=True), "open")


def test_nothing_is_concluded_from_nothing():
    assert "no arm has two seeds in common" in conclusion(STUDY, STUDY.arms, {}, "nats/token")
    assert "the baseline (uniform on 1..I-1) is not among" in conclusion(STUDY, ["causal"], {}, "nats/token")
    assert "no arm has two seeds in common" in conclusion(STUDY, STUDY.arms, {"causal": shown(1, 0, n=1)}, "nats/token")


def test_a_difference_that_could_not_be_shown_is_no_equality():
    wide, narrow = {"causal": shown(0.001, 0.1)}, {"causal": shown(0.001, 0.001)}
    sentence = conclusion(STUDY, STUDY.arms, wide, "nats/token")
    assert sentence.startswith(
        "Undecided: in caption_loss over 4 seeds, no difference to the baseline (uniform on 1..I-1) could be shown, nor"
    )
    assert "causal, M = 1 made no difference that matters (within ±0.02 nats/token)." in conclusion(
        STUDY, STUDY.arms, narrow, "nats/token"
    )
    small = conclusion(STUDY, STUDY.arms, {"causal": shown(0.005, 0.001)}, "nats/token")
    assert "causal, M = 1 is worse by 0.005" in small
    assert small.endswith("which is less than matters.")


def test_arms_with_too_few_seeds_do_not_silence_the_others(cells, evidence):
    some = primary_comparisons(STUDY, cells, evidence) | {
        "causal": Comparison(None, NOTHING_FOUND, "worse"),
        "fixed_25": shown(0.1, 0, n=1),
    }
    sentence = conclusion(STUDY, STUDY.arms, some, "nats/token")
    assert "fixed at 75 % is worse by 0." in sentence
    assert sentence.endswith("too few seeds to decide fixed at 25 %, causal, M = 1.")


def test_the_power_is_that_of_the_widest_and_the_narrowest_arm():
    many = {"fixed_25": shown(0, 0.01, df=1e6), "causal": shown(0, 0.02, df=1e6), "fixed_75": shown(0, 0, n=1)}
    sentence = power(STUDY, many, "nats/token")
    assert "a true difference of 0.028 to 0.056 nats/token, by the arm, is shown in 80 % of all cases" in sentence
    assert "0.02 would matter: one that matters can have been missed" in sentence
    assert power(STUDY, {"causal": shown(0, 0.005, df=1e6)}, "nats/token").endswith(
        "0.02 would matter: the study is large enough."
    )
    assert power(STUDY, {"fixed_75": shown(0, 0, n=1)}, "nats/token") == ""


@pytest.mark.parametrize(
    ("null", "positive", "words"),
    [
        (0.0, 1.0, {"null_control": "as it must be", "positive_control": "as it must be"}),
        (0.3, 0.0, {"null_control": "failed", "positive_control": "failed"}),
        (0.0, -1.0, {"null_control": "as it must be", "positive_control": "failed"}),
    ],
)
def test_controls_are_held_to_what_they_must_show(cells, tmp_path, null, positive, words):
    rng = np.random.default_rng(2)
    effect = {**EFFECT, "null_control": null, "positive_control": positive}
    for cell in cells:
        finish(cell, tmp_path, 3 + effect[cell.arm] + rng.normal(0, 0.01))
    assert {one.control: one.word for one in checked_controls(STUDY, load(cells, tmp_path))} == words


def test_controls_without_runs_are_undecided(cells, tmp_path):
    assert {one.word for one in checked_controls(STUDY, load(cells, tmp_path))} == {"undecided"}


def test_the_null_control_is_not_paired_with_seeds_that_are_not_its_own(evidence):
    values = evidence.values("caption_loss")
    expected = stats.ttest_ind(values["null_control"], values["uniform"], equal_var=False).confidence_interval(0.99)
    null = next(one for one in checked_controls(STUDY, evidence) if one.control == "null_control")
    assert f"[{expected.low:+.3f}, {expected.high:+.3f}]" in null.why
    assert expected.high - expected.low > 4, "the seeds are far apart, and that does not cancel"


def test_the_rate_of_false_alarms_is_said(cells, evidence):
    comparisons = primary_comparisons(STUDY, cells, evidence)
    note = null_note(STUDY, comparisons, evidence)
    assert "one in 100 fails by chance, and with all 17 studies the chance that one or more do is up to 16 %" in note
    errors = [one.difference.error for one in comparisons.values()]
    assert f"a standard error of {min(errors):.2g} to {max(errors):.2g}, this unpaired one 0." in note
    assert "paired" not in null_note(replace(STUDY, pairing="none"), comparisons, evidence).replace("unpaired", "")


def test_after_a_failed_control_nothing_is_decided(cells, tmp_path):
    rng = np.random.default_rng(2)
    effect = {**EFFECT, "positive_control": 0.0}
    for cell in cells:
        finish(cell, tmp_path, 3 + effect[cell.arm] + rng.normal(0, 0.01))
    evidence = load(cells, tmp_path)
    comparisons, controls = primary_comparisons(STUDY, cells, evidence), checked_controls(STUDY, evidence)
    failed = failed_controls(controls)
    assert failed == ["positive_control"]
    sentence = conclusion(STUDY, STUDY.arms, comparisons, "nats/token", failed)
    assert sentence.startswith("Undecided: a control failed (positive control), so no difference")
    assert {one.word for one in verdicts(STUDY, evidence, failed)} == {"undecided: a control failed (positive control)"}
    rows = {row[0]: row for row in primary_table(STUDY, evidence, comparisons, controls).rows}
    assert rows["causal, M = 1"][1:3] == ["worse", ["different: better", "undecided: a control failed"]]
    assert rows["captions of other images"][1:3] == ["worse", "failed"]
    text = build(request(cells), tmp_path, tmp_path / "reports").read_text()
    assert "Undecided: a control failed" in text
    assert "supported here" not in text
    assert "refuted here" not in text


def test_findings_name_metric_arm_and_side(evidence):
    found = findings(STUDY, evidence)
    assert any(f.startswith("pixel_loss_0.5: fixed at 75 % is above the baseline by 0.05") for f in found)
    assert not any("probe" in f or "25 %" in f for f in found)
    assert not any(f.startswith("caption_loss") for f in found), "the primary metric was asked for beforehand"


def test_the_primary_table_gives_expectation_finding_difference_power_and_speed(cells, evidence):
    comparisons, controls = primary_comparisons(STUDY, cells, evidence), checked_controls(STUDY, evidence)
    table = primary_table(STUDY, evidence, comparisons, controls)
    rows = {row[0]: row for row in table.rows}
    assert rows["uniform on 1..I-1"][1:3] == ["", ""]
    assert rows["uniform on 1..I-1"][4] == "baseline"
    assert rows["fixed at 75 %"][1:3] == ["open", "different: worse"]
    assert rows["fixed at 25 %"][1:3] == ["open", "undecided"]
    assert rows["causal, M = 1"][1:3] == ["worse", ["different: better", "not as expected"]]
    assert rows["the baseline with other seeds"][1:3] == ["no difference", "as it must be"]
    assert float(rows["fixed at 75 %"][4].split()[0]) == pytest.approx(0.5, abs=0.02)
    # Cohen's noncentrality for 80 % power with 3 degrees of freedom at 98.75 % is 6.895 standard errors.
    detectable = float(rows["fixed at 75 %"][6].removeprefix("± "))
    assert detectable == pytest.approx(6.895 * comparisons["fixed_75"].difference.error, rel=0.01)
    assert rows["fixed at 75 %"][7] == "never, in 4 seeds"
    # Better by 0.4 of the 2 that its curve falls over 16 samples: there after 80 % of them.
    reached = re.match(r"([\d.]+) \(4 of 4 seeds\)", rows["causal, M = 1"][7])
    assert float(reached[1]) == pytest.approx(0.8 * 16, abs=0.6)
    assert "untrained" not in rows


def test_the_table_of_metrics_has_the_untrained_encoder(evidence):
    table = metrics_table(STUDY, evidence)
    assert table.columns[-1] == "untrained"
    assert len(table.rows) == 6
    assert cost_table(STUDY, evidence).rows[-1][1] == "32"


@pytest.mark.parametrize(
    ("equal", "marked"),
    [("samples", []), ("flops", ["causal, M = 1"]), ("seconds", ["fixed at 25 %"])],
)
def test_an_arm_is_marked_as_unequal_in_what_the_study_holds_equal(evidence, equal, marked):
    """The causal arm has half more FLOPs, another half more seconds; all have their samples."""
    runs = evidence.runs.copy()
    runs.loc[runs["arm"] == "causal", "train_flops"] *= 1.5
    runs.loc[runs["arm"] == "fixed_25", "train_seconds"] *= 1.5
    table = cost_table(replace(STUDY, equal=equal), replace(evidence, runs=runs))
    assert [row[0] for row in table.rows if any("unequal" in cell for cell in row)] == marked
    flops = table.columns.index("FLOPs against the baseline")
    assert {row[0]: row[flops] for row in table.rows}["causal, M = 1"].startswith("1.50 x")


class Balanced(HTMLParser):
    """Fails on markup that does not close what it opens."""

    VOID = frozenset({"meta", "img", "br", "link", "path", "use", "rect", "image", "line", "circle"})

    def __init__(self):
        super().__init__()
        self.open, self.sources = [], []

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_report_is_whole_and_the_page_needs_no_other_file(cells, runs_dir, tmp_path):
    path = build(request(cells), runs_dir, tmp_path / "reports")
    folder = path.parent
    text = path.read_text()
    for file in re.findall(r"\]\((\S+)\)", text):
        assert (folder / file).exists(), file
    assert "a test" in text
    assert "`python sweeps/launch.py sweep=prefix_ratio 'sweep.arms=[uniform,causal]'`" in text
    assert "Nothing: every cell has its run." in text
    table = pd.read_csv(folder / "results.csv")
    assert len(table) == 32
    assert set(table["arm"]) == set(EFFECT)
    page = (folder / "report.html").read_text()
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert all(source.startswith(("#", "data:")) for source in parser.sources)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "figures share ids, so one would show another's clip"
    assert [f.suffix for f in folder.glob("figures/*.svg")] == [".svg"] * 4


def test_a_second_report_replaces_the_first_whole(cells, runs_dir, tmp_path):
    folder = build(request(cells), runs_dir, tmp_path / "reports").parent
    (folder / "stale.txt").write_text("of the old one")
    build(request(cells), runs_dir, tmp_path / "reports")
    assert not (folder / "stale.txt").exists()
    assert [p.name for p in (tmp_path / "reports").iterdir()] == ["prefix_ratio_test"]


def test_reports_written_at_once_leave_one_whole(cells, runs_dir, tmp_path):
    start = multiprocessing.get_context("fork")
    reports = [start.Process(target=build, args=(request(cells), runs_dir, tmp_path / "reports")) for _ in range(4)]
    for process in reports:
        process.start()
    for process in reports:
        process.join()
    assert [process.exitcode for process in reports] == [0] * 4
    assert [path.name for path in (tmp_path / "reports").iterdir()] == ["prefix_ratio_test"]
    assert (tmp_path / "reports/prefix_ratio_test/report.html").stat().st_size > 0


def test_the_same_runs_give_the_same_report(cells, runs_dir, tmp_path):
    one, other = (build(request(cells), runs_dir, tmp_path / name).parent for name in ("a", "b"))
    for file in one.rglob("*.*"):
        assert file.read_bytes() == (other / file.relative_to(one)).read_bytes(), file.name


def test_cells_that_are_missing_are_shown_with_their_reason(cells, tmp_path):
    for cell in cells:
        if (cell.arm, cell.seed) == ("causal", 1):
            with RunFolder(tmp_path, cell.name).acquire(cell.config) as attempt:
                attempt.fail(Failure("not finite", "text_loss is nan at step 7 | <script>"), "")
        elif cell.seed < 2:
            finish(cell, tmp_path, 3.0 + EFFECT[cell.arm])
    path = build(request(cells), tmp_path, tmp_path / "reports")
    text, page = path.read_text(), (path.parent / "report.html").read_text()
    assert "not run yet" in text
    assert r"text\_loss is nan at step 7 \| \<script\>" in text
    assert "&lt;script&gt;" in page
    assert "<script" not in page


def test_a_report_without_any_run_says_so(cells, tmp_path):
    text = build(request(cells), tmp_path, tmp_path / "reports").read_text()
    assert "Nothing can be concluded" in text
    assert text.count("not run yet") == len(cells)


def test_captions_from_models_cannot_become_markup(cells, tmp_path):
    for cell in cells:
        finish(cell, tmp_path, 3.0, caption="<img src=x onerror=alert(1)> | [a](b)")
    path = build(request(cells), tmp_path, tmp_path / "reports")
    assert "<img src=x" not in (path.parent / "report.html").read_text()
    assert r"\<img src=x onerror=alert(1)\> \| \[a\](b)" in path.read_text()


def test_a_folder_that_cannot_be_written_is_named(cells, runs_dir, tmp_path):
    (tmp_path / "blocked").write_text("")
    with pytest.raises(UsageError, match=r"the report folder .* cannot be written"):
        build(request(cells), runs_dir, tmp_path / "blocked")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"layout_version": 0, "attempt": 1, "metrics": {}}', "has layout 0 and this version reads layout 1"),
        ("{", "result.json cannot be read"),
        ("[]", "is not the result of a run; delete"),
    ],
)
def test_a_broken_or_older_result_is_named_and_the_old_report_stays(cells, runs_dir, tmp_path, content, message):
    report = build(request(cells), runs_dir, tmp_path / "reports")
    before = report.read_text()
    (runs_dir / cells[0].name / "result.json").write_text(content)
    with pytest.raises(UsageError, match=message):
        build(request(cells), runs_dir, tmp_path / "reports")
    assert report.read_text() == before
