import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import expand
from aimv2.ablations.request import MeasuredMetric, Request
from aimv2.ablations.study import WINNER
from aimv2.analysis.document.pages import to_markdown
from aimv2.analysis.evidence.records import Records, pack, unpack
from aimv2.analysis.evidence.tables import METRIC_COLUMNS
from aimv2.analysis.inference.items import ItemMoments
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.findings import climb, judge, lacking
from aimv2.analysis.judgement.sensitivity import sensitivity_of
from aimv2.analysis.sections.study import document
from aimv2.config.program import replaced
from aimv2.config.recipes.scales import demo
from aimv2.definitions.metrics import Definition, know
from tests.helpers.documents import text_of
from tests.helpers.evidence import evidence_from, evidence_of, sensitive
from tests.helpers.ladders import HARMS
from tests.helpers.searches import parsed, request_of_search, search_of, trial, typical, won_by_the_baseline
from tests.helpers.specimen import STUDY


def test_sensitivity_study_measures_its_own_sensitivity(tiny):
    study = STUDIES["sensitivity"]
    cells = expand(study, replaced(tiny, {"budget.samples": 64}), seeds=range(4))
    evidence = evidence_of(study, HARMS, spread=0.01)
    found = judge(Request(study=study, cells=cells, arguments=()), evidence, Look(1, 16), {})
    assert found.ladder is not None
    assert not found.sensitivity["content_loss"].is_blind
    assert found.reasons.blind == ""
    # A tenth of the samples, on the line between three quarters of them, 0.4 worse, and all.
    assert found.study.primary_margin == pytest.approx(0.4 * math.log(0.9) / math.log(0.75), rel=0.1)


def test_search_over_the_sensitivity_study_measures_no_sensitivity(tiny):
    request = request_of_search(tiny, study=STUDIES["sensitivity"])
    evidence, search = evidence_of(request.study, {WINNER: -0.2}, spread=0.01), parsed(typical(study="sensitivity"))
    found = judge(request, evidence, Look(1, 16), sensitive("content_loss"), search)
    assert found.ladder is None
    assert found.search is search
    assert found.withheld == []
    assert set(found.comparisons) == {WINNER}
    (reason,) = judge(request, evidence, Look(1, 16), {}, search).withheld
    assert "was not measured" in reason


def test_a_search_that_the_baseline_won_compares_and_withholds_nothing(tiny):
    values, evidence = parsed(won_by_the_baseline()), evidence_of(STUDY, {}, spread=0.1)
    alone = judge(request_of_search(tiny, has_winner=False), evidence, Look(1, 16), {}, values)
    assert not alone.compares
    assert alone.withheld == []
    confirmed = judge(request_of_search(tiny), evidence, Look(1, 16), {}, parsed(typical()))
    assert confirmed.compares
    assert confirmed.withheld == [confirmed.reasons.blind]


LADDER = STUDIES["sensitivity"]
LOSS, BLIND, ACCURACY = "content_loss", "content_loss_ink", "probe_object"
SEEN = HARMS | {rung: -HARMS[rung] for rung in ("width_050", "depth_200", "hidden_050")}  # three on the wrong side
EFFECTS = {(rung, metric): harm * sign for rung, harm in SEEN.items() for metric, sign in ((LOSS, 1), (ACCURACY, -1))}


@pytest.fixture(scope="module")
def ladder():
    evidence = evidence_of(LADDER, EFFECTS, spread=0.03, metrics=(LOSS, BLIND, ACCURACY))
    return climb(LADDER, evidence, demo())


def test_effects_are_recovered_with_their_intervals_and_noise(ladder):
    for rung, size in SEEN.items():
        found = ladder.metrics[LOSS].effects[rung]
        assert found.mean == pytest.approx(size, abs=0.06)
        assert found.low < found.mean < found.high
        assert found.num_seeds == 4
    seen = ladder.metrics[LOSS]
    assert seen.paired_sd == pytest.approx(0.03 * np.sqrt(2), rel=0.5)
    assert seen.seed_sd > 2 * seen.paired_sd, "noise of paired differences lacks what seeds share"


def test_the_untrained_encoder_is_compared_with_what_learns_of_images_alone(ladder):
    for metric, sign in ((LOSS, 1), (ACCURACY, -1)):
        above = ladder.metrics[metric].above
        means = {rung: one.mean for rung, one in above.items()}
        assert means == pytest.approx({"pixels_only": sign * 2.5, "pixels_shuffled": sign * 3.0}, abs=0.06)
        assert all(one.low < one.mean < one.high for one in above.values())


def test_metrics_that_order_what_is_certain_decide_the_kinds_that_they_see(ladder):
    judged = sensitivity_of(ladder)
    assert {metric: one.is_blind for metric, one in judged.items()} == {LOSS: False, BLIND: True, ACCURACY: False}
    for metric in (LOSS, ACCURACY):
        assert set(judged[metric].unseen) == {"width", "larger", "attention"}
        assert judged[metric].curve.harms == pytest.approx({0.25: 2.0, 0.5: 1.0, 0.75: 0.4, 2.0: -0.8}, abs=0.06)


def test_rungs_with_failed_runs_are_left_out():
    complete = evidence_of(LADDER, EFFECTS, spread=0.03, metrics=(LOSS,))
    failed = replace(complete, missing=evidence_from([], [], missing=[("samples_050", 9, True)]).missing)
    seen = climb(LADDER, failed, demo()).metrics[LOSS]
    assert "samples_050" not in seen.effects
    found = sensitivity_of(climb(LADDER, failed, demo()))[LOSS]
    assert "samples" in found.unseen
    assert set(found.curve.harms) == {0.25, 0.75, 2.0}, "the others still tell differences in samples"


def test_the_items_part_of_the_error_is_that_of_the_items():
    """Items differ from arm to arm, alike in all seeds, so the standard error over them has a closed form."""
    evidence = evidence_of(LADDER, EFFECTS, spread=0.03, metrics=(LOSS,))
    values, rng, num_items = evidence.values(LOSS), np.random.default_rng(0), 500
    part_A = {arm: pd.Series(rng.normal(0, 0.3, num_items)) for arm in values}
    parts = {(arm, seed): part_A[arm] for arm in values for seed in values[arm].dropna().index}
    found = climb(LADDER, replace(evidence, items=ItemMoments(lambda metric: parts)), demo()).metrics[LOSS]
    squares = [float((part_A[rung] - part_A[LADDER.baseline]).var()) / num_items for rung in found.effects]
    assert len(squares) > 2
    assert found.items_error == pytest.approx(np.sqrt(np.mean(squares)))
    assert climb(LADDER, evidence, demo()).metrics[LOSS].items_error is None


@pytest.fixture(scope="module")
def search():
    return parsed(search_of([trial(n, values=[value]) for n, value in enumerate([3.0, 2.0, 1.5])]))


def confirmed(search, effect=-0.2, *, spread=0.005, seen=None, has_winner=True, evidence=None):
    """Return the findings of a confirmation in which the winner differs by an effect."""
    request = request_of_search(demo(), has_winner=has_winner, seeds=range(4))
    if evidence is None:
        evidence = evidence_of(request.study, {WINNER: effect}, spread=spread)
    return judge(request, evidence, Look(1, 16), sensitive("content_loss") if seen is None else seen, search)


@pytest.mark.parametrize(
    ("effect", "spread", "result"),
    [
        (-0.2, 0.005, "confirmed"),
        (0.2, 0.005, "not confirmed"),
        (0.0, 0.002, "not confirmed"),
        (0.0, 0.5, "not confirmed"),
    ],
)
def test_a_winner_is_confirmed_by_the_interval_on_fresh_seeds(search, effect, spread, result):
    found = confirmed(search, effect, spread=spread)
    assert (found.comparisons[WINNER].difference.high < 0) == (result == "confirmed"), "lower is better"
    assert found.confirmation == result


def test_what_withholds_a_conclusion_withholds_a_confirmation(search):
    whole = evidence_of(request_of_search(demo(), seeds=range(4)).study, {WINNER: -0.2}, spread=0.005)
    codes = ["a" * 12, "b" * 12] * (len(whole.runs) // 2)
    mixed = replace(whole, runs=whole.runs.assign(code=codes, run=list(map(str, range(len(codes))))))
    is_lost = [(table["arm"] == WINNER) & (table["seed"] == 3) for table in (whole.runs, whole.metrics)]
    rows = whole.metrics[~is_lost[1]].to_numpy().tolist()
    failed = evidence_from(whole.runs[~is_lost[0]].to_dict("records"), rows, [(WINNER, 3, True)])
    for found in (
        confirmed(search, seen={}),
        confirmed(search, evidence=mixed),
        confirmed(search, evidence=failed),
        confirmed(search, evidence=evidence_from([], [])),
    ):
        assert found.confirmation == "no conclusion"


@pytest.mark.parametrize(
    "values",
    [
        search_of([trial(0, "failed"), trial(1, "pruned")]),
        search_of([]),
        search_of([trial(0)], winner=None),
        search_of([trial(0)], is_baseline=True),
        search_of([trial(0)]),  # its winner was not run again
    ],
)
def test_a_search_without_another_winner_confirms_nothing(values):
    assert confirmed(parsed(values), has_winner=False).confirmation == "no winner"


SCALAR = MeasuredMetric(
    name="own_rank", unit="dimensions", lower_is_better=False, plugin="my.py@a", digest="a" * 12, typed="my.py:own_rank"
)
RATIO = replace(SCALAR, name="own_ratio", unit="share", typed="own_ratio")
NUM_ITEMS = 40
COMMAND = "python sweeps/manage.py measure prefix_ratio_test 'plugins=[my.py]' 'evaluation.metrics=[own_rank]'"


@pytest.fixture(autouse=True, scope="module")
def known():
    """Let the metrics be known, as by the records of launches."""
    for metric in (SCALAR, RATIO):
        know(Definition(metric.name, metric.unit, metric.lower_is_better))


def with_metrics(request_of, evidence, **study):
    request = replace(request_of, study=replace(request_of.study, **study), metrics=(SCALAR, RATIO))
    return judge(request, evidence, Look(1, 16), sensitive(*request.study.deciding_metrics))


def page_of(report):
    """Return the text of a report with its details."""
    return "\n".join([to_markdown(report), *map(text_of, report.details)])


@pytest.mark.exhaustive
def test_report_names_what_lacks_the_metric_and_the_command_from_records_too(request_of, cells, evidence):
    rows = [
        (cell.arm, cell.seed, metric.name, 1.0 * cell.seed, metric.unit, "40 pairs, by my.py", "")
        for metric in (SCALAR, RATIO)
        for cell in cells
        if cell.seed != 3
    ]
    metrics = pd.concat([evidence.metrics, pd.DataFrame(rows, columns=METRIC_COLUMNS)], ignore_index=True)
    evidence = replace(evidence, metrics=metrics)
    judged = with_metrics(request_of, evidence)
    rank, ratio = judged.lacking
    assert rank.text == "8 of 32 finished runs lack own_rank"
    assert rank.command == COMMAND
    of_package = "python sweeps/manage.py measure prefix_ratio_test 'evaluation.metrics=[own_ratio]'"
    assert ratio.command == of_package, "an installed package needs no plugins="
    page = page_of(document(judged, {}))
    assert "8 of 32 finished runs lack own\\_rank: " in page
    assert f"`{COMMAND}`" in page
    assert "`own_rank`: 40 pairs, by my.py." in page
    again = unpack(pack(Records(judged.request, evidence, Look(1, 16))), STUDIES)
    assert again.request.metrics == (SCALAR, RATIO)
    assert [one.command for one in lacking(again.request, again.evidence)] == [rank.command, ratio.command]
    assert lacking(replace(request_of, metrics=()), evidence) == []


def test_a_primary_metric_that_no_run_has_is_the_reason(request_of, evidence):
    judged = with_metrics(request_of, evidence, primary_metric="own_rank")
    report = document(judged, {})
    assert report.answer == "Nothing is compared yet, as 32 of 32 finished runs lack own_rank."
    page = page_of(report)
    assert "shares two seeds" not in page
    assert f"`{COMMAND}`" in page


def test_a_metric_of_newer_code_is_measured_into_another_folder_unless_it_cannot_exist(request_of, evidence):
    def lacks(metric):
        return lacking(replace(request_of, study=replace(request_of.study, primary_metric=metric)), evidence)

    (one,) = lacks("reader_loss")
    assert one.text == "32 of 32 finished runs lack reader_loss"
    assert one.command == "python sweeps/manage.py measure prefix_ratio_test to=runs_again"
    assert lacks("caption_bits") == [], "some arms have it, and to the others it does not apply"
