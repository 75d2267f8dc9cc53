"""The scaling law of a study of sizes and samples, and what it predicts."""

from collections.abc import Sequence

import pandas as pd

from aimv2.ablations.study import Study
from aimv2.analysis.document.model import Block, Paragraph, Section
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.scaling.assess import assess
from aimv2.analysis.inference.scaling.bootstrap import NUM_DRAWS
from aimv2.analysis.inference.scaling.frontier import fit_cost, frontier
from aimv2.analysis.inference.scaling.power_law import FitError
from aimv2.analysis.judgement.compare import mixed_code
from aimv2.analysis.sections.scaling.agreement import agreement_sections
from aimv2.analysis.sections.scaling.law import Fitted, law_blocks, law_figure
from aimv2.analysis.sections.words import metric_title

KIND = "ladder of sizes x ladder of samples"
FORM = "additive"


def law_of(study: Study, evidence: Evidence, *, num_draws: int = NUM_DRAWS) -> Fitted | str | None:
    """Fit the scaling law of a study's primary metric.

    Returns:
        The law, or why there is none: mixed code, runs that cannot determine it, or FLOPs that do not grow with n; None
        if the study varies other things than size and samples.
    """
    if study.design.kind != KIND:
        return None
    if mixed := mixed_code(study, evidence):
        return mixed
    runs = scaling_runs(study, evidence)
    try:
        law = assess(runs, ["n", "d"], FORM, num_draws=num_draws)
        cost = fit_cost(runs)
        optimum = frontier(law.bootstrap, cost)
    except FitError as error:
        return str(error)
    loss = f"{metric_title(study.primary_metric)} [{evidence.unit(study.primary_metric)}]"
    labels = {"n": "encoder parameters", "d": "samples", "loss": loss}
    meanings = {"L": loss, "n": "the number of encoder parameters", "d": "the number of samples"}
    return Fitted(law, labels, meanings, cost, optimum)


def section(study: Study, evidence: Evidence, law: Fitted | str | None, withheld: Sequence[str] = ()) -> Section | None:
    """Return the scaling law of ``law_of`` and what it predicts. Called in the context ``style``.

    Args:
        withheld: why nothing is concluded in the primary metric.
    """
    if law is None:
        return None
    if isinstance(law, str):
        return Section("Scaling law", [Paragraph(f"No law is fitted: {law}.")])
    blocks: list[Block] = [Paragraph(_about(study, evidence)), *law_blocks(law)]
    if withheld:  # otherwise the law is the study's conclusion, and the figure stands beside it
        note = f"The law describes these runs and concludes nothing: {'; '.join(withheld)}."
        blocks = [Paragraph(note), law_figure(law), *blocks]
    by_metric = {
        metric: {
            f"{samples:,} samples": rows.pivot(index="seed", columns="n", values="loss")
            for samples, rows in scaling_runs(study, evidence, metric).groupby("d")
        }
        for metric in study.deciding_metrics
    }
    about = "The order of sizes at a number of samples and at the most."
    blocks += agreement_sections("Decision accuracy", about, by_metric, "decision_accuracy")
    return Section("Scaling law", blocks)


def scaling_runs(study: Study, evidence: Evidence, metric: str = "") -> pd.DataFrame:
    """Return a row per finished run of an arm with a metric: ``n``, ``d``, ``seed``, ``loss``, ``flops``.

    Args:
        metric: by default the primary one.
    """
    values = evidence.metrics[evidence.metrics["metric"] == (metric or study.primary_metric)]
    chosen = evidence.runs[evidence.runs["arm"].isin(list(study.arms))]
    merged = chosen.merge(values[["arm", "seed", "value"]], on=["arm", "seed"])
    columns = {"encoder_parameters": "n", "samples": "d", "value": "loss", "train_flops": "flops"}
    if merged.empty:
        return pd.DataFrame(columns=["arm", "run", "seed", *columns.values()])
    return merged.rename(columns=columns)[["arm", "run", "seed", *columns.values()]]


def _about(study: Study, evidence: Evidence) -> str:
    """Return what n and d are, and what else changes with them."""
    own = evidence.runs[evidence.runs["arm"].isin(list(study.arms))]
    other = own["other_parameters"]
    text = (
        "The loss is a function of n, the parameters of the encoder, and d, the samples seen in training. Other parts"
        f" of the model, such as the decoder, have {_range(other)} parameters. The FLOPs include them, n does not."
    )
    epochs = float((own["samples"] / own["train_pairs"]).max())
    if epochs > 1:
        text += f" Samples repeat: the longest runs see each pair {epochs:.1f} times, and d counts every time."
    if failed := sum(evidence.num_failed(arm) for arm in study.arms):
        text += f" {failed} runs failed, so the others are a selection."
    return text


def _range(values: "pd.Series[int]") -> str:
    low, high = values.min(), values.max()
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
