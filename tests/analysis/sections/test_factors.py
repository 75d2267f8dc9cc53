from dataclasses import replace

import pandas as pd
import pytest

from aimv2.ablations.design import factorial, setting
from aimv2.ablations.expand import expand
from aimv2.ablations.request import Request
from aimv2.ablations.studies.architecture import NORM_FFN
from aimv2.analysis.evidence.tables import MISSING_COLUMNS
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.findings import judge
from aimv2.analysis.sections import factors
from tests.helpers.documents import by_row, tables, text_of
from tests.helpers.evidence import evidence_of, sensitive

STUDY = NORM_FFN
METRIC = STUDY.primary_metric
EFFECTS = {"layer_swiglu": 0.5, "layer_gelu": 0.9}


@pytest.fixture(scope="module")
def factorial_cells(tiny):
    return expand(STUDY, tiny, seeds=range(4))


@pytest.fixture(scope="module")
def results():
    return evidence_of(STUDY, EFFECTS, spread=0.05, metrics=STUDY.deciding_metrics)


@pytest.fixture
def judged(factorial_cells):
    def judged(evidence, study=STUDY):
        request = Request(study=study, cells=factorial_cells, arguments=(f"sweep={study.slug}",))
        return judge(request, evidence, Look(1, 16), sensitive(*study.deciding_metrics))

    return judged


def test_controls_and_single_seeds_are_said(judged, results):
    metrics = results.metrics[(results.metrics["arm"] != "layer_gelu") | (results.metrics["seed"] == 0)]
    section = factors.section(judged(replace(results, metrics=metrics)))
    text = text_of(section)
    assert "positive control is inconclusive" in text
    assert "One seed only" in text
    assert "LayerNorm, GELU" in text
    found = tables(section)
    assert by_row(found[f"factor_tests_{METRIC}"])["norm × feed-forward layer"]["F"] == ("no test",)
    assert found[f"factor_effects_{METRIC}"].rows[-1][2].endswith("(no interval)")


def test_failed_runs_withhold_all_effects(judged, results):
    missing = pd.DataFrame([("layer_gelu", 4, "", "not finite", True)], columns=MISSING_COLUMNS)
    found = judged(replace(results, missing=missing))
    assert tables(factors.section(found)) == {}
    assert "1 of 5 runs of LayerNorm, GELU failed" in text_of(factors.section(found))
    assert factors.numbers(found) == {}


def test_study_of_single_factors_has_no_section(findings):
    assert factors.section(findings) is None
    assert factors.numbers(findings) == {}


def test_fraction_has_main_effects_alone(tiny):
    names = ("alpha", "beta", "rate")
    paths = ("objective.pixel_weight", "optimizer.beta2", "optimizer.peak_lr")
    values = ((0.3, 0.4), (0.9, 0.95), (1e-3, 2e-3))
    parts = [
        {f"{name}_{n}": setting(f"{name} {n}", {path: value}) for n, value in enumerate(some)}
        for name, path, some in zip(names, paths, values, strict=True)
    ]
    design = factorial(*parts, names=names, exclude=lambda *levels: sum(int(one[-1]) for one in levels) % 2)
    baseline = next(iter(design.arms))
    study = replace(STUDY, design=design, baseline=baseline, expected={}, claims={})
    request = Request(study=study, cells=expand(study, tiny, seeds=range(4)), arguments=())
    evidence = evidence_of(study, {}, spread=0.1, metrics=[METRIC])
    section = factors.section(judge(request, evidence, Look(1, 16), sensitive(METRIC)))
    assert list(by_row(tables(section)[f"factor_tests_{METRIC}"])) == list(names)
