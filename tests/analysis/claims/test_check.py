"""The check of a claim, with a launcher that writes records of runs with chosen losses."""

import math

import numpy as np
import pytest

from ablations.catalogue import STUDIES
from ablations.claims import CLAIMS
from ablations.expectations import CONTENT, PROBE
from aimv2.errors import UsageError
from aimv2.runs.record import RunFolder
from analysis.claims.check import MAX_SEEDS, OWN_KEYS, check, listed, plan_check
from analysis.inference.intervals import Estimate, bonferroni, detectable_difference
from analysis.inference.looks import Look
from analysis.judgement.sensitivity import COMMITTED, read_ladder
from analysis.load import load
from analysis.records import FILE, Records, pack
from sweeps.parse import parse
from tests.helpers.evidence import write_run

CLAIM = "uniform-prefix-length"  # of fixed_50 and causal against uniform, in content_loss
DIFFERENCE = {"fixed_50": 0.3, "causal": 0.5, "positive_control": 1.0}


@pytest.fixture
def launcher(tmp_path):
    """A function that returns a launcher: it writes the requested runs and their records, as the real one does."""
    calls = []

    def of(effects):
        def launch(arguments):
            calls.append(list(arguments))
            no_limit = [word for word in arguments if not word.startswith("limit=")]  # it would measure this machine
            parsed = parse([*no_limit, f"data.cache_dir={tmp_path / 'cache'}"])
            rng = np.random.default_rng(0)
            for cell in parsed.request.cells:
                if not RunFolder(parsed.plan.runs_dir, cell.name).is_done:
                    value = 3 + effects.get(cell.arm, 0.0) + rng.normal(0, 0.01)
                    write_run(cell, parsed.plan.runs_dir, value, code="c" * 12)
            folder = parsed.reports_dir / parsed.request.folder
            folder.mkdir(parents=True)
            evidence = load(parsed.request.cells, parsed.plan.runs_dir)
            (folder / FILE).write_bytes(pack(Records(parsed.request, evidence, Look(1))))
            return 0

        return launch

    of.calls = calls
    return of


def words(tmp_path, *more):
    return [CLAIM, "seeds=4", f"runs_dir={tmp_path / 'runs'}", *more]


@pytest.mark.parametrize(
    ("effects", "status", "start"),
    [
        (DIFFERENCE, 0, f"{CLAIM} is supported"),
        (DIFFERENCE | {"fixed_50": -0.3}, 1, f"{CLAIM} is contradicted"),
        (DIFFERENCE | {"fixed_50": -0.1}, 3, f"{CLAIM} is undecided"),
        (DIFFERENCE | {"positive_control": 0.0}, 3, f"{CLAIM} is not testable (positive control failed"),
    ],
)
def test_the_verdict_is_a_sentence_and_the_exit_status(launcher, tmp_path, capsys, effects, status, start):
    assert check(words(tmp_path), launcher(effects)) == status
    said = capsys.readouterr().out
    assert start in said
    assert "content_loss, fixed at 50 % minus uniform on 1..I-1: " in said.partition(start)[2]
    (arguments,) = launcher.calls
    assert "sweep.arms=[uniform,fixed_50,causal]" in arguments, "without the arm that no expectation names"
    assert {"sweep=prefix_ratio", "sweep.seeds=4", "limit=2h"} <= set(arguments)
    assert (tmp_path / "runs" / "checks" / "prefix_ratio" / FILE).exists(), "no other report is replaced"


def test_the_plan_is_printed_before_anything_runs(tmp_path, capsys):
    said = []

    def refuse(arguments):
        said.append(capsys.readouterr().out)
        return 2

    assert check(words(tmp_path, "limit=1s"), refuse) == 2
    assert "It takes 3 of 4 arms of sweep=prefix_ratio with 4 seeds" in said[0]
    assert "4 seeds detect 0." in said[0]
    assert "limit=1s" in said[0]
    assert "is" not in capsys.readouterr().out, "no verdict"


@pytest.mark.parametrize(("launched", "status"), [(1, 3), (2, 2), (130, 130)])
def test_a_launch_that_does_not_finish_gives_no_verdict(tmp_path, launched, status):
    assert check(words(tmp_path), lambda arguments: launched) == status


@pytest.mark.parametrize("more", ["dry_run=true", "executor=slurm"])
def test_without_runs_the_claim_is_undecided(tmp_path, capsys, more):
    calls = []
    assert check(words(tmp_path, more), lambda arguments: calls.append(arguments) or 0) == 3
    assert more in calls[0]
    assert "is supported" not in capsys.readouterr().out


def test_a_claim_without_a_study_is_not_testable(capsys):
    assert check(["lit-zero-shot"], pytest.fail) == 3
    assert capsys.readouterr().out == f"lit-zero-shot is not testable here. {CLAIMS['lit-zero-shot'].no_study}\n"


def test_nothing_runs_for_a_metric_that_sees_nothing(tmp_path, capsys):
    """The sensitivity of digits was measured with other captions than those of the study's baseline."""
    assert check(["synthetic-captions", f"runs_dir={tmp_path}"], pytest.fail) == 3
    assert "synthetic-captions is not testable at this scale: sensitivity of probe_digits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["alpha-sensitive"], "unknown claim 'alpha-sensitive'. Did you mean 'alpha-insensitive'?"),
        ([CLAIM, "study=loss_form"], "unknown study of uniform-prefix-length 'loss_form'"),
        ([CLAIM, "seeds=1"], "seeds=1 must be a whole number of at least 2"),
        ([CLAIM, "seeds=many"], "seeds=many must be a whole number"),
        ([CLAIM, "dry_run=perhaps"], "dry_run=perhaps must be true or false"),
        ([CLAIM, "sweep.arms=[uniform]"], r"sweep\.arms=\[uniform\] is set by the claim"),
        ([CLAIM, "scale=huge"], "unknown scale 'huge'"),
    ],
)
def test_bad_input_is_one_sentence(arguments, problem):
    with pytest.raises(UsageError, match=problem):
        check(arguments, pytest.fail)


def test_list_has_every_claim_below_its_source(capsys):
    assert check(["--list"]) == 0
    text = capsys.readouterr().out
    assert text == listed()
    assert [line.strip() for line in text.splitlines() if line.startswith("  ") and not line.startswith("   ")] == list(
        CLAIMS
    )
    headings = [line for line in text.splitlines() if not line.startswith(" ")]
    assert len(set(headings)) == len(headings)
    assert text.index("\nTable 9b\n") < text.index("  beats-clip-same-data") < text.index("\nTable 9c\n")
    assert check([]) == 2
    assert check(["--help", "--list"]) == 0
    assert capsys.readouterr().out.count("exit status is 0 if") == 2, "the usage"


def plan_of(claim, **own):
    return plan_check(CLAIMS[claim], OWN_KEYS | own, [])


def test_seeds_are_those_that_show_the_effect_within_limits():
    """The oracle is the minimum detectable difference at the measured noise and the level of a first look."""
    noise = read_ladder(COMMITTED / "sensitivity" / "sensitivity.json").metrics[CONTENT].paired_sd
    study = STUDIES["prefix_ratio"]
    level = bonferroni(len(study.claims), 0.975)
    fitting = next(
        n
        for n in range(2, 100)
        if detectable_difference(Estimate(0.0, noise / math.sqrt(n), n - 1, n, level)) <= study.equivalence_margin
    )
    assert f"sweep.seeds={fitting}" in plan_of(CLAIM).launch
    assert f"sweep.seeds={MAX_SEEDS}" in plan_of("decoder-width-optimum").launch, "0.003 takes hundreds"
    assert "sweep.seeds=4" in plan_of("both-losses-beat-image-only").launch, "0.136 takes fewer than the study has"


def test_noise_of_slopes_and_ranges_follows_from_their_weights():
    """Two arms have the squared weights 2, the difference of two slopes over 0, 1 and 2 has 1, and a range 4."""
    paired = read_ladder(COMMITTED / "sensitivity" / "sensitivity.json").metrics[PROBE].paired_sd
    texts = {claim: plan_of(claim, seeds="8").text for claim in ("no-large-batch", "width-matters-more-than-depth")}

    def detectable(squares, level):
        return detectable_difference(Estimate(0.0, paired * math.sqrt(squares / 2 / 8), 7, 8, level))

    assert f"8 seeds detect {detectable(1, 0.975):.3g} with" in texts["no-large-batch"][4]
    widths = 1 - 0.025 / 18
    assert f"8 seeds detect {detectable(4, widths):.3g} with" in texts["width-matters-more-than-depth"][4]


def test_another_scale_and_budget_name_another_report(tmp_path):
    plan = plan_check(CLAIMS[CLAIM], OWN_KEYS, ["scale=tiny", "sweep.equal=flops"])
    assert plan.folder == "prefix_ratio_equal_flops_tiny"
    assert plan.blind, "nothing was measured there"
