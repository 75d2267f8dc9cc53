"""Command lines of a launch, and refusals."""

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.base.errors import UsageError
from aimv2.objectives.build import build
from aimv2.sweeps.parse import parse
from tests.helpers.finished_runs import finished_run
from tests.helpers.sweeps import small_sweep

SEEN = "{arm:causal,metric:caption_loss,relation:worse,than_arm:uniform,than_metric:caption_loss}"


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
        (("sweep.primary_metric=recall",), "unknown sweep.primary_metric 'recall'. Allowed: blind_choice_accuracy, "),
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
        (
            ("executor.runs_per_gpu=0",),
            "executor: runs_per_gpu: Input should be greater than 0 (got 0)",
        ),
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
        (["sweep=prefix"], "unknown sweep 'prefix'. Did you mean 'prefix_ratio'?"),
        (["-m", "sweep=eos,objective"], "type python sweeps/launch.py sweep=eos and python sweeps/launch.py sweep=obj"),
        (["sweep.seeds=1"], "no sweep is named; type sweep=NAME. Allowed: "),
    ],
)
def test_an_unknown_sweep_is_refused(arguments, message):
    with pytest.raises(UsageError) as refused:
        parse(arguments)
    assert message in str(refused.value)


def test_a_sensitivity_study_needs_no_other(cache_dir):
    with pytest.raises(UsageError, match="sensitivity=auto has no effect on sweep=sensitivity, which measures it"):
        parse(["sweep=sensitivity", "sensitivity=auto", "dry_run=true", f"data.cache_dir={cache_dir}"])


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
