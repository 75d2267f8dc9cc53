"""Studies on the data at hand: arms of its sources, and metrics that it can have."""

from collections.abc import Mapping
from dataclasses import replace

from aimv2.ablations.expectations import DIGITS, PROBE
from aimv2.ablations.study import Study
from aimv2.config.program import Program
from aimv2.config.run_config import RunConfig
from aimv2.spec.metrics import missing_data, set_names


def adapted(study: Study, base: Program) -> Study:
    """Return the study for the data of its base run, before its arms are expanded.

    On scenes nothing changes but the arms of studies of mixtures. On other data, the probe of the first labelled set of
    ``evaluation.sets`` takes the place of the probes that decide on scenes, or that of the digits if there is none.

    Raises:
        UsageError: these data cannot answer the study's question.
    """
    if study.base is not None:
        return study
    assert isinstance(base, RunConfig), f"sweep={study.slug} names no base"
    study = study.fit(study, base)
    stand_ins = _stand_ins(study, base)
    if not stand_ins:
        return study
    primary = stand_ins.get(study.primary_metric, study.primary_metric)
    return replace(
        study,
        primary_metric=primary,
        claims={
            claim: tuple(one.in_metrics(stand_ins) for one in expectations)
            for claim, expectations in study.claims.items()
        },
        stand_ins=stand_ins,
    )


def announcements(study: Study) -> list[str]:
    """Return what a plan and a report say about a study that was adapted to its data, a sentence each."""
    found = list(study.notes)
    for metric, other in study.stand_ins.items():
        if other in study.deciding_metrics:  # else the command line chose another one
            better = "; a labelled set of your own would tell more: evaluation.sets=[FILE.yaml]" * (other == DIGITS)
            found.append(f"{other} takes the place of {metric}, the study's metric on other data{better}.")
    return found


def _stand_ins(study: Study, base: RunConfig) -> Mapping[str, str]:
    """Return the metrics of the study that others replace on these data.

    A claim about another metric that the data cannot have is not testable.
    """
    if base.data.has_scenes:
        return {}
    sets = set_names(base)
    stand_in = f"probe_{sets[0]}" if sets else DIGITS
    wanted = {PROBE, DIGITS}
    if missing_data(study.primary_metric, base):
        wanted.add(study.primary_metric)
    return {metric: stand_in for metric in study.deciding_metrics if metric in wanted and metric != stand_in}
