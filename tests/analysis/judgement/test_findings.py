from dataclasses import replace

from ablations.catalogue import STUDIES
from ablations.expand import expand
from ablations.request import Request
from ablations.study import UNTRAINED, WINNER
from aimv2.config.paths import replaced
from analysis.inference.looks import Look
from analysis.judgement.findings import baseline_of, judge
from tests.helpers.documents import judged_again
from tests.helpers.evidence import evidence_of, sensitive
from tests.helpers.searches import parsed, request_of_search, typical, won_by_the_baseline
from tests.helpers.specimen import STUDY


def test_findings_have_comparisons_controls_and_verdicts(findings):
    assert set(findings.comparisons) == set(STUDY.arms) - {"uniform"}
    assert {one.control for one in findings.controls} == set(STUDY.controls)
    assert set(findings.verdicts) == set(STUDY.claims)
    assert findings.config == baseline_of(findings.request)
    assert (findings.metric, findings.unit) == ("content_loss", "nats/token")
    assert findings.withheld == []


def test_level_is_that_of_the_look(request_of, evidence):
    widths = {
        number: judge(request_of, evidence, Look(number), {}).comparisons["causal"].difference.half_width
        for number in (1, 2)
    }
    assert widths[2] > widths[1]


def test_metric_that_is_not_sensitive_withholds_the_conclusion(findings):
    blind = judged_again(findings, findings.evidence, seen={})
    assert blind.withheld == [blind.blind]
    assert "was not measured" in blind.blind


def test_mixed_code_is_the_only_reason_that_is_given(findings):
    runs = findings.evidence.runs.copy()
    runs.loc[0, "code"] = "d" * 12
    assert judged_again(findings, replace(findings.evidence, runs=runs)).withheld == ["the runs are of 2 codes"]


def test_arms_are_in_the_order_of_reports(findings):
    assert findings.present([UNTRAINED, "positive_control", "causal", "uniform"]) == [
        "uniform",
        "causal",
        "positive_control",
        UNTRAINED,
    ]


def test_labels_have_the_actual_ratios(findings):
    arm = replace(STUDY.arms["causal"], ratios={"budget.samples": 2})
    study = replace(STUDY, design=replace(STUDY.design, arms={**STUDY.arms, "causal": arm}))
    again = judged_again(findings, findings.evidence, study=study)
    assert again.study.label("causal") == "causal (prefix of 1 patch) (here samples 16 for 16, 1 x)"


def test_sensitivity_study_measures_its_own_sensitivity(tiny):
    study = STUDIES["sensitivity"]
    cells = expand(study, replaced(tiny, {"budget.samples": 64}), seeds=range(4))
    evidence = evidence_of(study, {"samples_050": 0.5, "positive_control": 1.0}, spread=0.01)
    found = judge(Request(study=study, cells=cells, arguments=()), evidence, Look(1), {})
    assert found.ladder is not None
    assert found.sensitivity["content_loss"].tells_small_steps
    assert found.blind == ""


def test_search_over_the_sensitivity_study_measures_no_sensitivity(tiny):
    request = request_of_search(tiny, study=STUDIES["sensitivity"])
    evidence, search = evidence_of(request.study, {WINNER: -0.2}, spread=0.01), parsed(typical(study="sensitivity"))
    found = judge(request, evidence, Look(1), sensitive("content_loss"), search)
    assert found.ladder is None
    assert found.search is search
    assert found.withheld == []
    assert set(found.comparisons) == {WINNER}
    (reason,) = judge(request, evidence, Look(1), {}, search).withheld
    assert "was not measured" in reason


def test_a_search_that_the_baseline_won_compares_and_withholds_nothing(tiny):
    values, evidence = parsed(won_by_the_baseline()), evidence_of(STUDY, {}, spread=0.1)
    alone = judge(request_of_search(tiny, has_winner=False), evidence, Look(1), {}, values)
    assert not alone.compares
    assert alone.withheld == []
    confirmed = judge(request_of_search(tiny), evidence, Look(1), {}, parsed(typical()))
    assert confirmed.compares
    assert confirmed.withheld == [confirmed.blind]
