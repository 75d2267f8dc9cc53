"""The check of a claim, with a launcher that writes records of runs with chosen losses."""

import math
import zlib

import numpy as np
import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.claims import CLAIMS
from aimv2.ablations.expectations import CONTENT
from aimv2.ablations.recorded_runs import FILE
from aimv2.analysis.claims.check import check, listed
from aimv2.analysis.claims.check import launch as real_launch
from aimv2.analysis.claims.plan import base_of_study
from aimv2.analysis.evidence.records import Records, pack
from aimv2.analysis.evidence.run_files import load
from aimv2.analysis.inference.looks import Look
from aimv2.base.errors import RunFailedError, UsageError
from aimv2.config.arguments import guarded
from aimv2.request.compose import compose, run_config
from aimv2.request.resolve import resolve
from aimv2.runs.record import RunFolder
from aimv2.sweeps.parse import parse
from tests.helpers.evidence import write_run
from tests.helpers.ladders import ladder_of, seeing, write_ladder
from tests.helpers.marks import exhaustive

CLAIM = "uniform-prefix-length"  # of eleven rivals against uniform, in content_loss
DIFFERENCE = {"fixed_50": 0.3, "causal": 0.5, "positive_control": 1.0}
MARGIN = 0.4 * math.log(0.9) / math.log(0.75)  # of a metric that is 0.4 worse with three quarters of the samples


@pytest.fixture(autouse=True)
def sensitivity(tmp_path):
    """That of a loss that sees every rung at demo, beside the checks."""
    write_ladder(
        tmp_path / "runs" / "checks", ladder_of(seeing(CONTENT), base_of_study(STUDIES["prefix_distribution"]))
    )


@pytest.fixture
def launcher(tmp_path):
    """A function that returns a launcher: it writes the requested runs and their records, as the real one does."""
    calls = []

    def of(effects):
        def launch(arguments):
            calls.append(list(arguments))
            no_limit = [word for word in arguments if not word.startswith("limit=")]  # it would measure this machine
            parsed = parse([*no_limit, f"data.cache_dir={tmp_path / 'cache'}"])
            for cell in parsed.request.cells:
                if not RunFolder(parsed.plan.runs_dir, cell.name).is_done:
                    noise = np.random.default_rng(zlib.crc32(cell.name.encode())).normal(0, 0.005)
                    value = 3 + effects.get(cell.arm, 0.0) + noise
                    write_run(cell, parsed.plan.runs_dir, value, code="c" * 12)
            folder = parsed.reports_dir / parsed.request.folder
            folder.mkdir(parents=True, exist_ok=True)
            evidence = load(parsed.request.cells, parsed.plan.runs_dir)
            (folder / FILE).write_bytes(pack(Records(parsed.request, evidence, Look(1, 16))))
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
        exhaustive(DIFFERENCE | {"fixed_50": -0.3}, 1, f"{CLAIM} is contradicted"),
        exhaustive(DIFFERENCE | {"fixed_50": -MARGIN}, 3, f"{CLAIM} is undecided"),
        exhaustive(DIFFERENCE | {"positive_control": 0.0}, 3, f"{CLAIM} is not testable (positive control failed"),
    ],
)
def test_the_verdict_is_a_sentence_and_the_exit_status(launcher, tmp_path, capsys, effects, status, start):
    assert check(words(tmp_path), launcher(effects)) == status
    said = capsys.readouterr().out
    assert start in said
    found = said.partition(start)[2]
    assert "content_loss, fixed at 50 % minus uniform on 1..I-1, per image: " in found
    assert ("seeds decide it." in found) == (f"{CLAIM} is undecided" in start)
    (arguments,) = launcher.calls
    assert {"sweep=prefix_distribution", "sweep.seeds=4", "limit=2h"} <= set(arguments)
    assert (tmp_path / "runs" / "checks" / "prefix_distribution" / FILE).exists(), "no other report is replaced"


@pytest.mark.parametrize(("effects", "status"), [(DIFFERENCE, 0), exhaustive(DIFFERENCE | {"fixed_50": -0.3}, 1)])
def test_records_give_the_same_verdict_without_runs(launcher, tmp_path, capsys, effects, status):
    assert check(words(tmp_path), launcher(effects)) == status
    after_runs = capsys.readouterr().out.splitlines()
    folder = tmp_path / "runs" / "checks"
    assert check([CLAIM, "--from-records", f"reports_dir={folder}"], pytest.fail) == status
    *judged, source, alone = capsys.readouterr().out.removeprefix("By prefix_distribution: ").splitlines()
    assert [*judged, alone] == after_runs[-len(judged) - 1 :]
    assert source.startswith(f"  from {folder / 'prefix_distribution' / FILE}: ")


def test_parts_count_and_the_one_that_blocks_comes_first(capsys):
    assert check(["prefix-beats-causal", "--from-records"], pytest.fail) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "prefix-beats-causal is undecided, with all studies and parts."
    (start,) = (
        number
        for number, line in enumerate(lines)
        if line.startswith("By prefix_ratio: prefix-without-mask-is-best is undecid")
    )
    ends = [line.rpartition(": ")[2].partition(",")[0] for line in lines[start + 1 : start + 4]]
    assert ends == ["undecided", "supported", "supported"]


@pytest.mark.parametrize(
    ("claim", "status", "text"),
    [
        (CLAIM, 3, f"{CLAIM} is not run yet by sweep=prefix_distribution: "),
        ("lit-zero-shot", 3, f"lit-zero-shot is beyond reach here. {CLAIMS['lit-zero-shot'].why_not}\n"),
    ],
)
def test_without_records_there_is_no_verdict(tmp_path, capsys, claim, status, text):
    assert check([claim, "--from-records", f"reports_dir={tmp_path}"], pytest.fail) == status
    assert capsys.readouterr().out.startswith(text)


def test_the_plan_is_printed_before_anything_runs(tmp_path, capsys):
    said = []

    def refuse(arguments):
        said.append(capsys.readouterr().out)
        return 2

    assert check(words(tmp_path, "limit=1s"), refuse) == 2
    assert "It takes 12 of 12 arms of sweep=prefix_distribution with 4 seeds" in said[0]
    assert "4 seeds rule out, if there is none, a difference of 0." in said[0]
    assert "limit=1s" in said[0]
    assert f"{CLAIM} has no verdict: the launch was refused" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("launched", "status", "why"),
    [
        (1, 2, "a run failed (python sweeps/manage.py status prefix_distribution runs_dir="),
        (2, 2, "the launch was refused, for the reason in the error above"),
        (130, 130, "it was interrupted"),
        (-2, 130, "it was interrupted"),
        (-9, 2, "the launcher was ended by SIGKILL"),
        (77, 2, "the launcher failed with exit status 77"),
    ],
)
def test_a_launch_that_does_not_finish_gives_no_verdict(tmp_path, capsys, launched, status, why):
    assert check(words(tmp_path), lambda arguments: launched) == status
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{CLAIM} has no verdict: {why}")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError("the disk is full"), "error: the disk is full"),
        (RunFailedError("no space", "the disk is full"), "error: the disk is full"),
        (ZeroDivisionError(), "ZeroDivisionError"),
    ],
)
def test_an_error_is_not_a_contradiction(tmp_path, capsys, error, text):
    def fail(arguments):
        raise error

    assert guarded(lambda arguments: check(arguments, fail), words(tmp_path)) == 2
    assert text in capsys.readouterr().err


def test_the_real_launcher_reports_its_status(tmp_path):
    assert real_launch(["sweep=no_such_study", f"runs_dir={tmp_path}"]) == 2


@pytest.mark.parametrize("more", ["dry_run=true", "executor=slurm", "executor=another"])
def test_without_runs_the_claim_is_undecided(tmp_path, capsys, more):
    calls = []
    assert check(words(tmp_path, more), lambda arguments: calls.append(arguments) or 0) == 3
    assert more in calls[0]
    shown = capsys.readouterr().out
    assert "is supported" not in shown
    end = (
        f"{CLAIM} was not run (dry run)"
        if more == "dry_run=true"
        else "type the same command again when they are done."
    )
    assert shown.endswith(f"{end}\n")


def test_a_claim_without_a_study_says_why_and_what_measures_it(capsys):
    assert check(["lit-zero-shot"], pytest.fail) == 3
    assert capsys.readouterr().out == f"lit-zero-shot is beyond reach here. {CLAIMS['lit-zero-shot'].why_not}\n"
    assert check(["compute-optimal-frontier"], pytest.fail) == 3
    assert "\npython sweeps/launch.py sweep=scaling measures: optimal size" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([CLAIM, "--list"], "--list stands alone"),
        (["alpha-sensitive"], "unknown claim 'alpha-sensitive'. Did you mean 'alpha-insensitive'?"),
        ([CLAIM, "study=loss_form"], "unknown study of uniform-prefix-length 'loss_form'"),
        ([CLAIM, "seeds=1"], "seeds=1 must be a whole number of at least 2"),
        ([CLAIM, "seeds=many"], "seeds=many must be a whole number"),
        ([CLAIM, "dry_run=perhaps"], "dry_run=perhaps must be true or false"),
        ([CLAIM, "sweep.arms=[uniform]"], r"sweep\.arms=\[uniform\] is set by the check"),
        ([CLAIM, "reports_dir=reports"], "reports_dir=reports is set by the check"),
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
    assert set(CLAIMS) <= {line.strip() for line in text.splitlines()}
    assert check([]) == 2
    assert check(["--help", "--list"]) == 0
    assert capsys.readouterr().out.count("exit status is 0 if") == 2, "the usage"


@pytest.mark.exhaustive
def test_the_sensitivity_beside_the_check_plans_and_judges(launcher, tmp_path, capsys):
    """No sensitivity was measured at scale tiny: the only one lies in the folder of the checks."""
    arguments, calls = words(tmp_path, "scale=tiny"), []
    assert check(arguments, pytest.fail) == 3
    blind = capsys.readouterr().out
    assert "is not testable: the sensitivity of content_loss at scale tiny was not measured" in blind
    assert "; sensitivity=auto measures it beside the study. Checks read sensitivity studies in" in blind
    assert f"(reports_dir={tmp_path / 'runs' / 'checks'})" in blind
    assert check([*arguments, "sensitivity=auto", "dry_run=true"], lambda launched: calls.append(launched) or 0) == 3
    assert "sensitivity=auto" in calls[0], "the launch measures it"
    base = resolve(run_config(compose(arguments[3:], defaults={})))
    write_ladder(tmp_path / "runs" / "checks", ladder_of(seeing(CONTENT), base), "sensitivity_tiny")
    assert check(arguments, launcher(DIFFERENCE)) == 0
    assert f"{CLAIM} is supported" in capsys.readouterr().out


@pytest.mark.exhaustive
def test_seeds_that_are_committed_count_and_are_not_run_again(launcher, tmp_path, capsys):
    published, launch = tmp_path / "published", launcher(DIFFERENCE)
    assert check([CLAIM, "seeds=4", f"runs_dir={tmp_path / 'runs'}"], launch) == 0
    published.mkdir()
    (tmp_path / "runs" / "checks" / "prefix_distribution").rename(published / "prefix_distribution")
    capsys.readouterr()
    more = [CLAIM, "seeds=8", f"runs_dir={tmp_path / 'runs'}"]
    assert check(more, launch, published) == 0
    printed = capsys.readouterr().out
    assert f"4 seeds are committed ({published / 'prefix_distribution'}); committed=false runs them here." in printed
    assert "sweep.seeds=[4,5,6,7]" in launcher.calls[-1]
    assert "n = 8" in printed.partition(f"{CLAIM} is supported")[2]
    assert "By the committed seeds alone: supported; by the others alone: supported." in printed
    for alone in ([*more, "committed=false"], [*more[:1], "seeds=4", *more[2:]], [*more, "optimizer.peak_lr=0.01"]):
        check(alone, launch, published)
        assert launcher.calls[-1][1].startswith("sweep.seeds=")
        assert "[" not in launcher.calls[-1][1]
        assert "seeds are committed" not in capsys.readouterr().out
