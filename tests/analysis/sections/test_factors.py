import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from ablations.design import factorial, setting
from ablations.expand import expand
from ablations.request import Request
from ablations.studies import norm_ffn
from analysis.document.model import Figure, walk
from analysis.document.style import COLOURS, style
from analysis.evidence.load import MISSING_COLUMNS
from analysis.inference.intervals import Estimate
from analysis.inference.looks import Look
from analysis.judgement.findings import judge
from analysis.sections import factors
from analysis.sections.factors import interactions
from tests.helpers.documents import by_row, tables, text_of
from tests.helpers.evidence import evidence_of, sensitive

STUDY = norm_ffn.STUDY
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
        return judge(request, evidence, Look(1), sensitive(*study.deciding_metrics))

    return judged


def section_of(findings):
    with style():
        return factors.section(findings)


def test_tables_have_tests_effects_and_means(judged, results):
    found = tables(section_of(judged(results)))
    tests = by_row(found[f"factor_tests_{METRIC}"])
    assert list(tests) == ["norm", "feed-forward layer", "norm × feed-forward layer"]
    assert tests["norm"]["degrees of freedom"] == ("1, 9",)
    assert tests["norm"]["p, corrected (Holm)"] == ("< 0.001",)
    values = results.values(METRIC)
    norm = (values["layer_swiglu"] + values["layer_gelu"] - values["rms_swiglu"] - values["rms_gelu"]).mean() / 2
    effect = found[f"factor_effects_{METRIC}"].rows[0]
    assert effect[1] == "LayerNorm − RMSNorm"
    assert effect[2].value == pytest.approx(norm)
    assert effect[2].lines[0].startswith(f"{norm:+.4f} [")
    means = by_row(found[f"factor_cells_{METRIC}"])
    assert list(means) == [STUDY.label(arm) for arm in STUDY.arms]
    assert means["LayerNorm, GELU"]["mean [95 % interval]"][0].startswith(f"{values['layer_gelu'].mean():.4f} [")


def test_primary_metric_comes_first_with_its_figure_and_others_are_folded(judged, results):
    section = section_of(judged(results))
    figures = [block for block in walk([section]) if isinstance(block, Figure)]
    assert [figure.name for figure in figures] == ["interactions"]
    assert len(figures[0].data) == 4
    folded = [block.title for block in section.blocks if getattr(block, "is_folded", False)]
    assert folded == ["Means of all combinations", "Held-out loss of content words"]


def test_controls_and_single_seeds_are_said(judged, results):
    metrics = results.metrics[(results.metrics["arm"] != "layer_gelu") | (results.metrics["seed"] == 0)]
    section = section_of(judged(replace(results, metrics=metrics)))
    text = text_of(section)
    assert "positive control is inconclusive" in text
    assert "One seed only" in text
    assert "LayerNorm, GELU" in text
    found = tables(section)
    assert by_row(found[f"factor_cells_{METRIC}"])["LayerNorm, GELU"]["limits"] == ("one seed, so no interval",)
    assert by_row(found[f"factor_tests_{METRIC}"])["norm × feed-forward layer"]["F"] == ("no test",)
    assert found[f"factor_effects_{METRIC}"].rows[-1][2].lines[0].endswith("(no interval)")


def test_failed_runs_withhold_all_effects(judged, results):
    missing = pd.DataFrame([("layer_gelu", 4, "", "not finite", True)], columns=MISSING_COLUMNS)
    found = judged(replace(results, missing=missing))
    assert tables(section_of(found)) == {}
    assert "1 of 5 runs of LayerNorm, GELU failed" in text_of(section_of(found))
    assert factors.numbers(found) == {}


def test_study_of_single_factors_has_no_section(findings):
    assert factors.section(findings) is None
    assert factors.numbers(findings) == {}


def test_fraction_has_main_effects_and_no_figure(tiny):
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
    section = section_of(judge(request, evidence, Look(1), sensitive(METRIC)))
    assert list(by_row(tables(section)[f"factor_tests_{METRIC}"])) == list(names)
    assert not [block for block in walk([section]) if isinstance(block, Figure)]


def test_numbers_are_json_with_the_estimates_of_the_table(judged, results):
    found = judged(results)
    shown = json.loads(json.dumps(factors.numbers(found)))[METRIC]
    effect = tables(section_of(found))[f"factor_effects_{METRIC}"].rows[0][2]
    assert shown["effects"][0]["estimate"]["mean"] == effect.value
    assert shown["effects"][0]["levels"] == {"norm": ["LayerNorm", "RMSNorm"]}
    assert shown["tests"][0]["term"] == "norm"


FACTORS = {"norm": ["rms", "layer"], "width": ["w1", "w2", "w3"]}
MEANS = {("rms", "w1"): 1.0, ("rms", "w2"): 2.0, ("rms", "w3"): 3.0, ("layer", "w1"): 2.0, ("layer", "w3"): 1.0}


@pytest.fixture
def drawn():
    cells = {levels: Estimate(mean, 0.1, 8, 4) for levels, mean in MEANS.items()}
    cells["layer", "w3"] = Estimate(1.0, 0.0, 8, 1)
    values = pd.DataFrame([(norm, width, mean) for (norm, width), mean in MEANS.items()], columns=[*FACTORS, "value"])
    with style():
        return interactions(cells, FACTORS, values, "loss [nats]")


def test_factor_with_more_levels_is_on_the_axis_and_the_other_has_lines(drawn):
    axis = drawn[0].axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["w1", "w2", "w3"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("width", "loss [nats]")
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["rms", "layer"]
    assert legend.get_title().get_text() == "norm"


def test_lines_pass_through_the_means_that_there_are(drawn):
    lines = {line.get_label(): line for line in drawn[0].axes[0].lines if not line.get_label().startswith("_")}
    assert list(lines["rms"].get_ydata()) == [1, 2, 3]
    assert list(lines["layer"].get_ydata()) == [2, 1]
    assert np.round(lines["layer"].get_xdata()).tolist() == [0, 2], "the combination that did not run is left out"
    assert [to_hex(line.get_color()) for line in lines.values()] == list(COLOURS[:2])
