"""Which sensitivity study a launch with ``sensitivity=auto`` adds to a study."""

import pytest

from aimv2.base.errors import UsageError
from aimv2.config.program import replaced
from aimv2.config.recipes.scales import tiny as tiny_scale
from aimv2.objectives.build import build
from aimv2.request.resolve import resolve
from aimv2.sweeps.parse import parse
from tests.helpers.finished_runs import finished_run
from tests.helpers.ladders import ladder_of, seeing, write_ladder
from tests.helpers.marks import everyday, exhaustive

CURVE = ["samples_025", "samples_050", "samples_075", "samples_200"]


@pytest.fixture
def planned(cache_dir, tmp_path):
    """Parse the dry run of a study with ``sensitivity=auto``, where no sensitivity was measured."""

    def parsed(slug, *more, scale="scale=tiny"):
        folders = (f"reports_dir={tmp_path / 'reports'}", f"data.cache_dir={cache_dir}")
        return parse([f"sweep={slug}", *filter(None, [scale]), "dry_run=true", "sensitivity=auto", *folders, *more])

    return parsed


def arms_of(request):
    """The arms of a request besides those that every study has."""
    return [arm for arm in dict.fromkeys(cell.arm for cell in request.cells) if arm in request.study.arms]


@pytest.mark.parametrize(
    ("slug", "metric", "rungs"),
    [
        ("caption_order", "reader_loss", ["pixels_only"]),  # of words
        ("prefix_distribution", "content_loss", ["hidden_050"]),  # training on pixels only has no such loss
        ("decoder_size", "reader_loss", ["depth_050", "width_050", "pixels_only"]),
        ("crop_scale", "reader_loss", ["pixels_only", "pixels_shuffled"]),
        ("eos", "reader_loss", ["pixels_only"]),  # no claim, but a conclusion in the metric
    ],
)
def test_rungs_are_those_of_the_kinds_of_the_studys_claims(planned, slug, metric, rungs):
    found = planned(slug)
    assert arms_of(found.sensitivity) == sorted(["base", *CURVE, *rungs], key=list(found.sensitivity.study.arms).index)
    assert found.note == f"the sensitivity of {metric} at scale tiny was not measured, so sweep=sensitivity is done" + (
        " beside the study"
    )
    assert found.plan.requests == (found.sensitivity, found.request)


@pytest.mark.parametrize("more", [(), ("sweep.claims.uniform-prefix-length=[]",)])
def test_claims_that_are_left_out_need_no_rung(planned, more):
    arms = arms_of(planned("prefix_distribution", *more).sensitivity)
    assert ("hidden_050" in arms) == (not more)


@pytest.mark.parametrize(
    "slug", everyday(["prefix_ratio", "batch_size"], ["prefix_ratio", "synthetic_fraction", "data_mix", "batch_size"])
)
def test_the_base_is_the_baseline_of_the_study_and_its_runs_are_shared(planned, slug):
    """The baselines of two of these are not the run of their scale."""
    found = planned(slug, "sweep.seeds=[3,5]")
    bases = {(cell.seed, cell.name) for cell in found.sensitivity.cells if cell.arm == "base"}
    baseline = found.request.study.baseline
    assert bases == {(cell.seed, cell.name) for cell in found.request.cells if cell.arm == baseline}
    assert {seed for seed, _ in bases} == {3, 5}
    shared = {cell.name for cell in found.sensitivity.cells} & {cell.name for cell in found.request.cells}
    assert len(shared) >= 4 * 2, "baseline, two controls and the untrained encoder with two seeds"


def test_its_arguments_launch_it_alone(planned):
    found = planned("synthetic_fraction", "budget.samples=5120", "executor.workers=1").sensitivity
    alone = parse(found.arguments)
    assert (alone.request.folder, alone.request.cells) == (found.folder, found.cells)
    assert alone.sensitivity is None


@pytest.mark.exhaustive
def test_each_base_run_has_a_report_of_its_own(planned):
    one, same, other = (
        planned(slug, f"budget.samples={samples}").sensitivity.folder
        for slug, samples in (("eos", 5120), ("caption_order", 5120), ("eos", 10240))
    )
    assert one == same != other
    assert one.startswith("sensitivity_")
    assert one.endswith("_tiny")


@pytest.mark.parametrize(
    ("changed", "lacking"),
    [
        ({}, ""),
        ({"samples_075": None}, ""),  # the curve has other points
        exhaustive({"width_050": None}, ""),  # no claim of the study is about width
        (
            {"hidden_050": None},
            "the sensitivity study of this base run has no results for 'half of the patches hidden'",
        ),
    ],
)
def test_nothing_is_added_if_all_that_the_study_needs_is_known(planned, tmp_path, changed, lacking):
    base = planned("prefix_distribution").request.baseline
    write_ladder(tmp_path / "reports", ladder_of(seeing("content_loss", **changed), base))
    found = planned("prefix_distribution")
    assert (found.sensitivity is None) == (not lacking)
    known = "sensitivity=auto adds nothing: the sensitivity of this base run was measured"
    assert found.note == (f"{lacking}, so sweep=sensitivity is done beside the study" if lacking else known)
    if not lacking:
        assert found.plan.requests == (found.request,)


def test_another_base_is_named_by_what_differs(planned, tmp_path):
    write_ladder(tmp_path / "reports", ladder_of(seeing("reader_loss"), resolve(tiny_scale())))
    note = planned("eos", "budget.batch_size=8").note
    assert "was measured with budget.batch_size=512, not with budget.batch_size=8" in note


def test_one_seed_is_refused_since_it_shows_no_effect(planned):
    with pytest.raises(
        UsageError, match=r"sensitivity=auto is not possible here: it takes two seeds .* sweep.seeds=\[7\]"
    ):
        planned("eos", "sweep.seeds=[7]")


def test_a_rung_that_a_small_base_does_not_have_is_named(planned):
    with pytest.raises(
        UsageError, match="sensitivity=auto is not possible here: arms 'base' and 'depth_050' are the same"
    ):
        planned("decoder_depth", "model.encoder.depth=1")


@pytest.mark.exhaustive
def test_from_given_weights_only_rungs_of_the_same_size_start(planned, tiny, tmp_path):
    run = finished_run(tmp_path, replaced(tiny, {"budget.samples": 3200}), build(tiny))
    found = planned("high_res_adaptation", f"start.weights={run.path}", scale="")
    assert arms_of(found.sensitivity) == ["base", *CURVE, "pixels_only", "hidden_050"]
    assert {cell.config.start.fingerprint for cell in found.sensitivity.cells} == {run.name}
    shared = {cell.name for cell in found.sensitivity.cells} & {cell.name for cell in found.request.cells}
    assert len(shared) == 4 * 4
    sized = planned(
        "decoder_width", f"start.weights={run.path}", "budget.samples=64", "sweep.arms=[width_100]", scale=""
    )
    assert "width_050" not in arms_of(sized.sensitivity)


def test_a_search_needs_what_its_primary_metric_needs(planned):
    found = planned("loss_weight", "search=optuna", "search.trials=3")
    assert arms_of(found.sensitivity) == ["base", *CURVE]
    assert found.plan.requests == (found.sensitivity, found.request)
    assert found.search is not None
