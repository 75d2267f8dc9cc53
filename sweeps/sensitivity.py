"""``sensitivity=auto``: the sensitivity study that the verdicts of a launched study need, as another launch."""

from collections.abc import Mapping

from aimv2.ablations.ladder import needs, typed
from aimv2.ablations.request import Request
from aimv2.ablations.studies.sensitivity import SAMPLES, STUDY
from aimv2.base.errors import UsageError
from aimv2.config.program import Program, differences, value_at
from aimv2.config.signature import is_name
from aimv2.definitions.programs import absent_metrics

OF_STUDY = ("sweep", "search", "sensitivity")  # the first parts of arguments that say what is studied
OF_BOTH = "sweep.allow_mixed_code"
# Starts of paths that cannot be typed.
FILLED_IN = ("data.fingerprint", "start.fingerprint", "plugins.")


def arguments_of(request: Request, words: Mapping[str, str], base: Program) -> list[str]:
    """Return the arguments that measure what a study needs on the run of its baseline, with the seeds of the study.

    The report is named after that run, so that it replaces no other.

    Args:
        words: the arguments of the study's launch, by key.
        base: the run that the study's arms change.

    Raises:
        UsageError: there is one seed only.
    """
    seeds = list(dict.fromkeys(cell.seed for cell in request.cells))
    if len(seeds) < 2:
        raise UsageError(f"it takes two seeds or more, since one has no interval, and sweep.seeds={seeds}")
    baseline = request.baseline
    rungs = {STUDY.baseline, *SAMPLES}.union(*needs(request.study, baseline, absent_metrics(baseline)).values())
    arms = [arm for arm in STUDY.arms if arm in rungs]
    changed = {
        path: f"{path}={typed(value)}"
        for path, value in differences(baseline.with_seed(base.seed), base).items()
        if not path.startswith(FILLED_IN)
    }
    kept = [
        word
        for key, word in words.items()
        if (key == OF_BOTH or key.partition(".")[0] not in OF_STUDY) and key not in changed
    ]
    return [
        f"sweep={STUDY.slug}",
        f"sweep.arms={typed(arms)}",
        f"sweep.seeds={typed(seeds)}",
        f"sweep.suffix={baseline.with_seed(0).name.rpartition('-')[2]}",
        *([] if "scale" in words or is_name(value_at(base, "start.fingerprint")) else [f"scale={request.study.scale}"]),
        *kept,
        *changed.values(),
    ]
