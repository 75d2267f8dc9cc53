"""Reports from runs whose numbers are known."""

import multiprocessing
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from ablations.launched import Launched
from ablations.prefix_ratio import STUDY
from ablations.study import UNTRAINED
from aimv2.errors import UsageError
from aimv2.record import Failure, Metric, RunFolder, write_json
from analysis.conclude import checked_controls, conclusion, findings, verdicts
from analysis.load import load
from analysis.report import build, primary_differences
from analysis.tables import cost_table, metrics_table, primary_table

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
EFFECT = {"uniform": 0.0, "fixed_25": 0.0, "fixed_50": 0.0, "fixed_75": 0.5, "causal": -0.4, UNTRAINED: 4.0}
EFFECT |= {"null_control": 0.0, "positive_control": 1.0}


def launched(cells):
    return Launched(study=STUDY, cells=cells, arguments=("sweep=prefix_ratio", "sweep.arms=[uniform,causal]"))


def finish(cell, runs_dir, value, *, caption="red apple", causal=0.0):
    """A run folder as a run leaves it, with a chosen result."""
    config = cell.config
    with RunFolder(runs_dir, cell.name).claim(config) as attempt:
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
    differences = primary_differences(STUDY, cells, evidence)
    assert differences.keys() == {"fixed_25", "fixed_50", "fixed_75", "causal"}
    assert differences["fixed_75"].excludes_zero
    assert differences["fixed_75"].mean == pytest.approx(0.5, abs=0.02)
    assert not differences["fixed_25"].excludes_zero
    unpaired = evidence.values("caption_loss").std()
    assert unpaired.min() > 0.5, "the seeds differ by more than any arm"


def test_the_conclusion_says_what_the_intervals_show(cells, evidence):
    sentence = conclusion(STUDY, STUDY.arms, primary_differences(STUDY, cells, evidence), "nats/token")
    assert "fixed at 75 % is worse by 0." in sentence
    assert "causal, M = 1 is better by 0." in sentence
    assert "for fixed at 25 %, fixed at 50 %, no difference could be shown" in sentence
    assert sentence.count(". ") == 0
    assert sentence.endswith(".")


def test_nothing_is_concluded_from_nothing(cells, evidence):
    differences = primary_differences(STUDY, cells, evidence)
    assert "no arm has two seeds in common" in conclusion(STUDY, STUDY.arms, {}, "nats/token")
    assert "the baseline (uniform on 1..I-1) is not among" in conclusion(STUDY, ["causal"], {}, "nats/token")
    few = {arm: replace(d, low=float("nan"), high=float("nan"), n=1) for arm, d in differences.items()}
    assert "no arm has two seeds in common" in conclusion(STUDY, STUDY.arms, few, "nats/token")
    flat = {arm: replace(d, low=-1.0, high=1.0, n=3) for arm, d in few.items()}
    sentence = conclusion(STUDY, STUDY.arms, flat, "nats/token")
    assert sentence.startswith(
        "No difference to the baseline (uniform on 1..I-1) could be shown in caption_loss over 3"
    )


def test_arms_with_too_few_seeds_do_not_silence_the_others(cells, evidence):
    differences = primary_differences(STUDY, cells, evidence)
    some = differences | {"causal": None, "fixed_25": replace(differences["fixed_25"], low=float("nan"), n=1)}
    sentence = conclusion(STUDY, STUDY.arms, some, "nats/token")
    assert "fixed at 75 % is worse by 0." in sentence
    assert sentence.endswith("too few seeds to decide fixed at 25 %, causal, M = 1.")


@pytest.mark.parametrize(
    ("gap", "uniform", "prefix"),
    [
        # What dropping the causal mask does to the causal arm: worse by 0.5, better by 0.5, nothing.
        (-0.5, "refuted here", "supported here"),
        (0.5, "refuted here", "refuted here"),
        (0.0, "refuted here", "undecided"),
    ],
)
def test_verdicts_follow_the_claims_expectations(cells, tmp_path, gap, uniform, prefix):
    rng = np.random.default_rng(1)
    for cell in cells:
        causal = gap * (cell.arm == "causal") + rng.normal(0, 0.01)
        finish(cell, tmp_path, 3 + EFFECT[cell.arm] + rng.normal(0, 0.01), causal=causal)
    words = {verdict.claim.id: verdict.word for verdict in verdicts(STUDY, load(cells, tmp_path))}
    assert words == {"uniform-prefix-length": uniform, "prefix-beats-causal": prefix}


def test_a_claim_that_no_arm_contradicts_is_not_refuted_and_one_without_runs_undecided(cells, tmp_path):
    nothing = verdicts(STUDY, load(cells, tmp_path))
    assert {verdict.word for verdict in nothing} == {"undecided"}
    assert all("too few seeds" in verdict.why for verdict in nothing)
    rng = np.random.default_rng(1)
    for cell in cells:
        finish(cell, tmp_path, 3 + abs(EFFECT[cell.arm]) + rng.normal(0, 0.01), causal=rng.normal(0, 0.01))
    words = {verdict.claim.id: verdict.word for verdict in verdicts(STUDY, load(cells, tmp_path))}
    assert words["uniform-prefix-length"] == "not refuted here"


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


def test_findings_name_metric_arm_and_side(evidence):
    found = findings(STUDY, evidence)
    assert any(f.startswith("pixel_loss_0.5: fixed at 75 % is above the baseline by 0.05") for f in found)
    assert not any("probe" in f or "25 %" in f for f in found)
    assert not any(f.startswith("caption_loss") for f in found), "the primary metric was asked for beforehand"


def test_the_primary_table_gives_mean_difference_and_speed(cells, evidence):
    table = primary_table(STUDY, evidence, primary_differences(STUDY, cells, evidence))
    rows = {row[0]: row for row in table.rows}
    assert rows["uniform on 1..I-1"][3] == "baseline"
    assert [rows[name][1] for name in ("uniform on 1..I-1", "fixed at 75 %", "causal, M = 1")] == ["", "open", "worse"]
    assert float(rows["fixed at 75 %"][3].split()[0]) == pytest.approx(0.5, abs=0.02)
    assert rows["fixed at 75 %"][5] == "never, in 4 seeds"
    # Better by 0.4 of the 2 that its curve falls over 16 samples: there after 80 % of them.
    reached = re.match(r"([\d.]+) \(4 of 4 seeds\)", rows["causal, M = 1"][5])
    assert float(reached[1]) == pytest.approx(0.8 * 16, abs=0.6)
    assert "untrained" not in rows


def test_the_table_of_metrics_has_the_untrained_encoder(evidence):
    table = metrics_table(STUDY, evidence)
    assert table.columns[-1] == "untrained"
    assert len(table.rows) == 6
    assert cost_table(STUDY, evidence).rows[-1][1] == "32"


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
    path = build(launched(cells), runs_dir, tmp_path / "reports")
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
    folder = build(launched(cells), runs_dir, tmp_path / "reports").parent
    (folder / "stale.txt").write_text("of the old one")
    build(launched(cells), runs_dir, tmp_path / "reports")
    assert not (folder / "stale.txt").exists()
    assert [p.name for p in (tmp_path / "reports").iterdir()] == ["prefix_ratio"]


def test_reports_written_at_once_leave_one_whole(cells, runs_dir, tmp_path):
    start = multiprocessing.get_context("fork")
    reports = [start.Process(target=build, args=(launched(cells), runs_dir, tmp_path / "reports")) for _ in range(4)]
    for process in reports:
        process.start()
    for process in reports:
        process.join()
    assert [process.exitcode for process in reports] == [0] * 4
    assert [path.name for path in (tmp_path / "reports").iterdir()] == ["prefix_ratio"]
    assert (tmp_path / "reports/prefix_ratio/report.html").stat().st_size > 0


def test_the_same_runs_give_the_same_report(cells, runs_dir, tmp_path):
    one, other = (build(launched(cells), runs_dir, tmp_path / name).parent for name in ("a", "b"))
    for file in one.rglob("*.*"):
        assert file.read_bytes() == (other / file.relative_to(one)).read_bytes(), file.name


def test_cells_that_are_missing_are_shown_with_their_reason(cells, tmp_path):
    for cell in cells:
        if (cell.arm, cell.seed) == ("causal", 1):
            with RunFolder(tmp_path, cell.name).claim(cell.config) as attempt:
                attempt.fail(Failure("not finite", "text_loss is nan at step 7 | <script>"), "")
        elif cell.seed < 2:
            finish(cell, tmp_path, 3.0 + EFFECT[cell.arm])
    path = build(launched(cells), tmp_path, tmp_path / "reports")
    text, page = path.read_text(), (path.parent / "report.html").read_text()
    assert "not run yet" in text
    assert r"text\_loss is nan at step 7 \| \<script\>" in text
    assert "&lt;script&gt;" in page
    assert "<script" not in page


def test_a_report_without_any_run_says_so(cells, tmp_path):
    text = build(launched(cells), tmp_path, tmp_path / "reports").read_text()
    assert "Nothing can be concluded" in text
    assert text.count("not run yet") == len(cells)


def test_captions_from_models_cannot_become_markup(cells, tmp_path):
    for cell in cells:
        finish(cell, tmp_path, 3.0, caption="<img src=x onerror=alert(1)> | [a](b)")
    path = build(launched(cells), tmp_path, tmp_path / "reports")
    assert "<img src=x" not in (path.parent / "report.html").read_text()
    assert r"\<img src=x onerror=alert(1)\> \| \[a\](b)" in path.read_text()


def test_a_folder_that_cannot_be_written_is_named(cells, runs_dir, tmp_path):
    (tmp_path / "blocked").write_text("")
    with pytest.raises(UsageError, match=r"the report folder .* cannot be written"):
        build(launched(cells), runs_dir, tmp_path / "blocked")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"layout_version": 0, "attempt": 1, "metrics": {}}', "has layout 0 and this version reads layout 1"),
        ("{", "result.json cannot be read"),
        ("[]", "is no result of a run; delete"),
    ],
)
def test_a_broken_or_older_result_is_named_and_the_old_report_stays(cells, runs_dir, tmp_path, content, message):
    report = build(launched(cells), runs_dir, tmp_path / "reports")
    before = report.read_text()
    (runs_dir / cells[0].name / "result.json").write_text(content)
    with pytest.raises(UsageError, match=message):
        build(launched(cells), runs_dir, tmp_path / "reports")
    assert report.read_text() == before
