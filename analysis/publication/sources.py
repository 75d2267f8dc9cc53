"""The sources of a study's runs: what training has shown of each, and their licences."""

from collections.abc import Mapping, Sequence

import pandas as pd
from aimv2.base.errors import REASONS

from ablations.study import Study
from analysis.document.model import Table, escape
from analysis.evidence.load import Evidence
from analysis.judgement.guards import MAX_EPOCHS

REPEATS_NOTE = (
    f"Up to {MAX_EPOCHS} epochs of repeated text are nearly as good as new text for language models (arXiv 2305.16264);"
    " this is not known of pairs."
)


def mixture_table(study: Study, evidence: Evidence) -> Table:
    """Return samples, epochs, share of dense captions and bad samples of each source; arms that are equal share rows.

    Samples and epochs are means over the runs of an arm; bad samples are summed. Empty if no run recorded them.
    """
    table = Table(["arms", "source", "samples per run", "epochs", "dense captions", "bad samples of each arm"])
    shown = evidence.mixture
    groups: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for arm in study.conditions:
        own = shown[shown["arm"] == arm]
        rows = tuple(_row(rows) for _, rows in own.groupby("source", sort=False))
        if rows:
            groups.setdefault(rows, []).append(study.label(arm))
    for rows, labels in groups.items():
        arms = "all" if len(groups) == 1 else "; ".join(labels)
        table.rows.extend([[arms if not number else "", *row] for number, row in enumerate(rows)])
    return table


def repeats(study: Study, evidence: Evidence) -> list[str]:
    """Return a sentence for each source that an arm has seen too often."""
    sentences = []
    means = evidence.mixture.groupby(["source", "arm"], sort=False)["epochs"].mean()
    often = means[means > MAX_EPOCHS]
    for source, epochs in often.groupby("source", sort=False):
        arms = [study.label(arm) for arm in study.conditions if arm in epochs.index.get_level_values("arm")]
        times = f"{epochs.min():.3g}" if epochs.min() == epochs.max() else f"{epochs.min():.3g} to {epochs.max():.3g}"
        sentences.append(f"{escape(str(source))} was shown {times} times, in these arms: {'; '.join(arms)}.")
    return [*sentences, REPEATS_NOTE] if sentences else []


def _row(runs: pd.DataFrame) -> tuple[str, ...]:
    """Return the cells of a source in the runs of an arm."""
    samples = runs["samples"].mean()
    bad = [f"{reason}: {count:,}" for reason in REASONS if (count := int(runs[reason].sum()))]
    return (
        escape(str(runs["source"].iloc[0])),
        f"{samples:,.0f}",
        f"{runs['epochs'].mean():.3g}",
        f"{100 * runs['dense'].sum() / runs['samples'].sum():.0f} %" if samples else "",
        "; ".join(bad) or "none",
    )


def credits_text(credits: Mapping[str, Sequence[str]]) -> str:
    """Return the sources and labelled sets of runs (``Evidence.credits``), each with its licence, as Markdown."""
    shown = {kind: ", ".join(map(escape, lines)) for kind, lines in credits.items()}
    text = f"Images: {shown['sources']}."
    return f"{text} Labelled sets: {shown['sets']}." if shown["sets"] else text
