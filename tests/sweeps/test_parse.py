"""Command lines of a launch, and refusals."""

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.base.errors import UsageError
from aimv2.config.program import replaced
from aimv2.objectives.build import build
from aimv2.sweeps.parse import parse
from tests.helpers.finished_runs import finished_run
from tests.helpers.ladders import ladder_of, seeing, write_ladder
from tests.helpers.marks import everyday, exhaustive
from tests.helpers.sweeps import small_sweep

SEEN = "{arm:causal,metric:caption_loss,relation:worse,than_arm:uniform,than_metric:caption_loss}"
CURVE = ["samples_025", "samples_050", "samples_075", "samples_200"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("sweep.arms=[casual]",), "unknown arm 'casual'. Did you mean 'causal'?"),
        (("objective.name=image_only",), "compares content_loss, which is not applicable to objective image_only"),
        (
            ("objective.name=clip",),
            "arm 'fixed_50' cannot exist: prefix.law='fixed' has no effect with attention='bidirectional'",
        ),
        (
            ("objective.name=caption", "model.decoder.order=text_first"),
            "model.decoder.order='text_first' with objective.name='caption': only 'image_first'",
        ),
        (("sweep.seeds=few",), "sweep.seeds: few must be a number of seeds, at least 1, or a list"),
        (("budget.sample=64",), "Did you mean 'budget.samples'?"),
        (("seeds=8",), "unknown key 'seeds'. Did you mean 'sweep.seeds'?"),
        (("arms=[causal]",), "unknown key 'arms'. Did you mean 'sweep.arms'?"),
        (("workers=2",), "unknown key 'workers'. Did you mean 'executor.workers'?"),
        (("optimizer.lr=1e-3",), "unknown key 'optimizer.lr'. Did you mean 'optimizer.peak_lr'?"),
        (("-m",), "cannot use '-m': nothing is needed to run several values; sweep=NAME runs a study"),
        (("seed=1",), "cannot use 'seed=1' in a sweep: it has no effect; type sweep.seeds=[1]"),
        (("sweep.primary_metric=recall",), "unknown sweep.primary_metric 'recall'. Allowed: caption_bits, "),
        (("sweep.design=ladder",), "but in Python, in ablations/studies/prefix_ratio.py"),
        (("sweep.suffix=../other",), "sweep.suffix: String should match pattern"),
        (("sweep.is_search=true",), "cannot use 'sweep.is_search=true' in a sweep: search=optuna makes it a search"),
        (("sweep.slug=eos",), "sweep.slug is not set on a command line but in Python"),
        (("sweep.arms.causal=fixed",), "sweep.arms.causal is not set on a command line but in Python"),
        (
            (f"sweep.claims.prefix-beats-causal=[{SEEN.replace('caption_loss', 'recall')}]",),
            "unknown metric of sweep.claims.prefix-beats-causal 'recall'",
        ),
        (
            ("prefix.law=fixed", "prefix.fraction=0.3", "objective.supervise_eos=true"),
            "prefix.law=fixed prefix.fraction=0.3 has no effect: every arm of the sweep sets its own prefix",
        ),
        (
            ("budget=2h",),
            "cannot use 'budget=2h' in a sweep: limit=2h limits the price of a plan, budget.samples=4096 sets",
        ),
        (("executor.workers=1", "executor.workers=2"), "executor.workers= is given twice"),
        (("executor.workers=1000",), "executor.workers=1000 is more than the"),
        (("executor.runs_per_gpu=0",), "executor: runs_per_gpu: Input should be greater than 0 (got 0)"),
        (("executor=slrum",), "unknown executor 'slrum'"),
        (("dry_run=perhaps",), "dry_run: "),
        (("price=perhaps",), "price: "),
        (("sensitivity=yes",), "sensitivity: Input should be 'auto' (got 'yes')"),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_sentence(cache_dir, more, message):
    with pytest.raises(UsageError) as refused:
        parse(small_sweep(cache_dir, *more))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep=sensitivity", "sensitivity=auto"], "has no effect on sweep=sensitivity, which measures it"),
        (["sweep=prefix"], "unknown sweep 'prefix'. Did you mean 'prefix_ratio'?"),
        (["-m", "sweep=eos,objective"], "type python sweeps/launch.py sweep=eos and python sweeps/launch.py sweep=obj"),
        (["sweep.seeds=1"], "no sweep is named; type sweep=NAME. Allowed: "),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(cache_dir, arguments, message):
    with pytest.raises(UsageError) as refused:
        parse([*arguments, "dry_run=true", f"data.cache_dir={cache_dir}"])
    assert message in str(refused.value)


@pytest.mark.parametrize("more", [(), ("objective.supervise_eos=true",)])
def test_an_override_that_would_be_lost_is_refused(cache_dir, more):
    """Every arm of loss_weight has its own pixel_weight."""
    with pytest.raises(UsageError, match=r"objective\.pixel_weight=0\.1 has no effect: every arm of the sweep sets"):
        parse([*small_sweep(cache_dir, *more, "objective.pixel_weight=0.1", sweep="loss_weight"), "dry_run=true"])


def test_a_study_of_adaptation_needs_weights_to_start_from_and_takes_the_config_of_their_run(tiny, cache_dir, tmp_path):
    words = ["sweep=high_res_adaptation", "dry_run=true", "executor=slurm", f"data.cache_dir={cache_dir}"]
    with pytest.raises(UsageError, match=r"sweep=high_res_adaptation starts from a finished run, .*; type start"):
        parse(words)
    run = finished_run(tmp_path, tiny, build(tiny))
    parsed = parse([*words, f"start.weights={run.path}", "optimizer.weight_decay=0.2", "budget.samples=16"])
    configs = {cell.arm: cell.config for cell in parsed.request.cells}
    assert all(config.start.fingerprint == run.name for config in configs.values())
    assert configs["weight_decay"].optimizer.weight_decay == 0.2
    assert configs["adapted"].model.image_px == configs["untrained"].model.image_px == 24
    assert configs["adapted"].model.encoder == tiny.model.encoder


def test_overrides_reach_the_study(cache_dir):
    study = parse(
        [
            *small_sweep(
                cache_dir,
                "sweep.question='Which?'",
                "sweep.source=ours",
                "sweep.expected.causal=better",
                f"sweep.claims.prefix-beats-causal=[{SEEN}]",
                "sweep.claims.prefix-without-mask-is-best=[]",
            ),
            "dry_run=true",
        ]
    ).request.study
    assert (study.question, study.source, study.expected["causal"]) == ("Which?", "ours", "better")
    (seen,) = study.claims["prefix-beats-causal"]
    assert (seen.arm, seen.relation, seen.than_arm) == ("causal", "worse", "uniform")
    assert set(study.claims) == {"prefix-beats-causal", "prefix-beats-causal-probe"}


@pytest.mark.parametrize("sweep", ["prefix_ratio", "caption_order"])
def test_the_scale_is_that_of_the_study_unless_another_is_typed(cache_dir, sweep):
    words = [f"sweep={sweep}", "dry_run=true", f"data.cache_dir={cache_dir}"]
    assert {cell.config.scale for cell in parse(words).request.cells} == {STUDIES[sweep].scale}
    assert {cell.config.scale for cell in parse([*words, "scale=tiny"]).request.cells} == {"tiny"}


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
        ("decoder_size", "reader_loss, probe_ink", ["depth_050", "width_050", "pixels_only"]),
        ("crop_scale", "reader_loss, probe_ink", ["pixels_only", "pixels_shuffled"]),
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


@pytest.mark.parametrize(
    ("slug", "word", "message"),
    [
        ("eos", "sweep.seeds=[7]", r"it takes two seeds .* sweep.seeds=\[7\]"),  # one shows no effect
        ("decoder_depth", "model.encoder.depth=1", "arms 'base' and 'depth_050' are the same"),
    ],
)
def test_a_sensitivity_that_cannot_be_measured_is_refused(planned, slug, word, message):
    with pytest.raises(UsageError, match=f"sensitivity=auto is not possible here: {message}"):
        planned(slug, word)


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
