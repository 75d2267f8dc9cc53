"""A reproducibility checklist, filled from configs, manifests and findings.

Items are those of the NeurIPS paper checklist (2025) and of the Machine Learning Reproducibility Checklist (Pineau et
al. 2021, JMLR 22, version 2.0), in our words. What runs cannot know is left to the authors, and said so.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple

from aimv2.base.errors import REASONS

from analysis.document.model import Cell, Paragraph, Section, Table, code_span, escape
from analysis.evidence.searches import Search
from analysis.judgement.findings import Findings
from analysis.publication.sources import credits_text
from analysis.sections.words import percent, seen

Answer = Literal["yes", "no", "partly", "does not apply", "for the authors"]
CONFIG, MANIFEST, RESULT, REPORT = "config of the runs", "manifests of the runs", "results of the runs", "this report"
INTRO = (
    "Items of the NeurIPS paper checklist (2025) and of the Machine Learning Reproducibility Checklist (MLRC; Pineau et"
    " al. 2021, JMLR 22), in our words. Answers come from what the runs recorded. *For the authors* marks what runs"
    " do not record."
)


class Item(NamedTuple):
    """An item of a checklist with its answer.

    Attributes:
        source: the checklists and their items.
        origin: where the answer comes from.
    """

    question: str
    source: str
    answer: Answer
    detail: str
    origin: str


def section(findings: Findings) -> Section:
    """Return the checklist as a table."""
    table = Table(["item", "of", "answer", "from"], name="checklist")
    for item in items(findings):
        table.rows.append([item.question, item.source, Cell((f"**{item.answer}**", item.detail)), item.origin])
    return Section("Reproducibility checklist", [Paragraph(INTRO), table], is_folded=True)


def items(findings: Findings) -> list[Item]:
    """Return all items in the order of a paper: claims, setting, data, code, results, cost, people."""
    return [
        *_claims(findings),
        *_setting(findings),
        *_data(findings),
        *_code(findings),
        *_results(findings),
        *_ethics(findings),
    ]


def _claims(findings: Findings) -> Iterator[Item]:
    words = Counter(str(verdict.word) for verdict in findings.verdicts.values())
    counts = ", ".join(f"{number} {word}" for word, number in words.items())
    scale = f"All conclusions are for scale {findings.config.scale} and these data."
    withheld = f" None in the primary metric: {'; '.join(findings.withheld)}." if findings.withheld else ""
    yield Item(
        "Do claims say what the results show, and within which limits?",
        "NeurIPS 1, 2",
        "yes",
        f"{f'Claims of the paper: {counts}.' if counts else 'No claim of the paper is judged.'} {scale}{withheld}",
        REPORT,
    )
    yield Item(
        "Are theorems stated with assumptions and proofs?",
        "NeurIPS 3; MLRC theoretical claims",
        "does not apply",
        "The study has no theoretical result.",
        "kind of report",
    )


def _setting(findings: Findings) -> Iterator[Item]:
    config, runs = findings.config, findings.evidence.runs
    model, optimizer = config.model, config.optimizer
    yield Item(
        "Are model and training described so that they can be repeated?",
        "NeurIPS 4, 6; MLRC models 1",
        "yes",
        f"Baseline: encoder {model.encoder.width} x {model.encoder.depth}, decoder {model.decoder.width} x"
        f" {model.decoder.depth}, objective {config.objective.name}, {config.budget.samples:,} samples in batches of"
        f" {config.budget.batch_size}, peak learning rate {optimizer.peak_lr:g}, weight decay"
        f" {optimizer.weight_decay:g}. Each run has its whole config in `config.json`.",
        CONFIG,
    )
    has_sizes = "encoder_parameters" in runs and len(runs)
    sizes = (
        (
            f"{runs['encoder_parameters'].iloc[0]:,} parameters in the encoder and {runs['other_parameters'].iloc[0]:,}"
            f" others (first run); {runs['train_flops'].sum():.3g} training FLOPs in all, in closed form."
        )
        if has_sizes
        else "No run has finished."
    )
    yield Item(
        "Is the cost of the model given: size, operations?",
        "MLRC models 3",
        "yes" if has_sizes else "no",
        sizes,
        MANIFEST,
    )
    yield Item(
        "Are the assumptions explained?",
        "MLRC models 2",
        "partly",
        "Those of the statistics are in docs/statistics.md, those of the method in the paper that it reproduces.",
        "documentation",
    )
    yield Item(
        "Are ranges of hyperparameters given, and how values were chosen?",
        "NeurIPS 6; MLRC results 1",
        "yes",
        _values(findings),
        "study, config of the runs" if findings.search is None else "record of the search, config of the runs",
    )


def _values(findings: Findings) -> str:
    """Return the range of values and how they were chosen."""
    study, search = findings.study, findings.search
    others = "All other values are those of the baseline."
    if search is None:
        arms = "; ".join(study.label(arm) for arm in study.arms)
        return f"The arms are the range: {arms} (design: {study.design.kind}). {others}"
    chosen = "they were compared" if search.winning is None else "the winner was chosen"
    return (
        f"The section *Search* has the space, the sampler and {_all_trials(search)}; {chosen} by"
        f" {escape(search.metric.name)} on the {escape(search.split)} split. {others}"
    )


def _all_trials(search: Search) -> str:
    return f"all {len(search.trials)} trials" if len(search.trials) != 1 else "the only trial"


def _data(findings: Findings) -> Iterator[Item]:
    config, evidence = findings.config, findings.evidence
    data, runs = config.data, evidence.runs
    has_sizes = "train_pairs" in runs and len(runs)
    sizes = (
        (
            f"{seen(evidence, 'train_pairs')} training pairs and {seen(evidence, 'held_out_pairs')} held-out pairs;"
            f" evaluation on split {config.evaluation.split}."
        )
        if has_sizes
        else "No run has finished."
    )
    yield Item(
        "Are sizes and splits of the data given?",
        "NeurIPS 6; MLRC datasets 1, 2",
        "yes" if has_sizes else "no",
        sizes,
        f"{MANIFEST}, {CONFIG}",
    )
    mixture = evidence.mixture
    bad = {reason: int(mixture[reason].sum()) for reason in REASONS if len(mixture) and mixture[reason].sum()}
    counts = "; ".join(f"{reason}: {number:,}" for reason, number in bad.items()) or "none"
    yield Item(
        "Is it said which data were left out?",
        "MLRC datasets 3",
        "yes" if len(mixture) else "no",
        f"Samples that could not be used, over all runs: {counts}." if len(mixture) else "The runs did not record it.",
        RESULT,
    )
    is_own = data.kind == "files"
    yield Item(
        "Can others get the data?",
        "NeurIPS 5; MLRC datasets 4, 5",
        "for the authors" if is_own else "yes",
        (
            f"The data are files of the authors; their fingerprint is {code_span(data.fingerprint)}."
            if is_own
            else f"The code renders them from packages; fingerprint of their versions {code_span(data.fingerprint)}."
        ),
        CONFIG,
    )
    licences = credits_text(evidence.credits)
    is_stated = "no licence stated" not in licences and "licence unknown" not in licences
    yield Item(
        "Are the licences of used assets named?",
        "NeurIPS 12",
        "yes" if is_stated else "partly",
        licences,
        "packages and descriptions of the sources",
    )


def _code(findings: Findings) -> Iterator[Item]:
    runs = findings.evidence.runs
    commits = [str(one) for one in dict.fromkeys(runs["commit"])] if "commit" in runs else []
    changed = any(not one or one.endswith("+changes") for one in commits)
    shown = f"Commit {seen(findings.evidence, 'commit')}; digest of the code {seen(findings.evidence, 'code')}"
    yield Item(
        "Is the code of training and evaluation available, with the command?",
        "NeurIPS 5; MLRC code 2, 3, 5",
        "yes" if commits and not changed else "partly",
        f"{shown}{', with uncommitted changes' if changed else ''}. The command is at the top of this report.",
        MANIFEST,
    )
    yield Item(
        "Are dependencies specified?",
        "MLRC code 1",
        "yes",
        f"`constraints.txt` pins all versions; torch {seen(findings.evidence, 'torch')}. Each manifest says where"
        " a run's versions differ.",
        MANIFEST,
    )
    yield Item(
        "Are trained models and other new assets documented?",
        "NeurIPS 13; MLRC code 4",
        "yes" if len(runs) else "does not apply",
        "Each run has its weights; `python -m aimv2 weights export` writes them with a model card.",
        "docs/weights.md",
    )


def _results(findings: Findings) -> Iterator[Item]:
    evidence, metric = findings.evidence, findings.metric
    runs, missing = evidence.runs, evidence.missing
    failed = int(missing["has_failed"].sum()) if len(missing) else 0
    seeds = sorted({cell.seed for cell in findings.cells})
    of_each = f"{len(seeds)} seeds of each arm"
    if findings.search is not None and not findings.compares:
        of_each = f"{len(seeds)} seeds of the baseline, beside {_all_trials(findings.search)} of the search"
    yield Item(
        "Is the number of runs given?",
        "MLRC results 2",
        "yes",
        f"{len(runs)} of {len(findings.cells)} finished, {failed} failed, {len(missing) - failed} not finished;"
        f" {of_each}.",
        RESULT,
    )
    how = evidence.evaluation(metric)
    yield Item(
        "Is the measure defined?",
        "MLRC results 3",
        "yes" if how else "no",
        f"{metric} in {escape(findings.unit)}: {escape(how)}." if how else f"{metric} was not measured.",
        RESULT,
    )
    yield _error_bars(findings)
    yield _compute(findings)


def _error_bars(findings: Findings) -> Item:
    known = [one.difference for one in findings.comparisons.values() if one.difference.has_interval]
    baseline = findings.evidence.mean(findings.metric, findings.study.baseline)
    detail = ""
    if known:
        covers = ", ".join(dict.fromkeys(one.covers for one in known))
        detail = (
            f"Means and {percent(findings.look.level)} % intervals of the differences from the baseline, simultaneous"
            f" over arms, which cover {covers}, over {min(one.n for one in known)} seeds or more. Equivalence margin"
            f" {findings.study.equivalence_margin:g} {escape(findings.unit)}."
        )
    elif not findings.compares and baseline.has_interval:
        detail = f"95 % intervals of the baseline's means over {baseline.n} seeds, which cover seeds only."
    return Item(
        "Are error bars reported, and is it said what they cover?",
        "NeurIPS 7; MLRC results 4",
        "yes" if detail else "no",
        detail or "There are too few seeds for intervals.",
        REPORT,
    )


def _compute(findings: Findings) -> Item:
    runs = findings.evidence.runs
    if runs.empty:
        answer: Answer = "no"
        detail = "No run has finished."
    elif "hardware" not in runs or "seconds" not in runs:
        answer, detail = "no", "The runs did not record it."
    else:
        answer = "partly"
        detail = (
            f"{seen(findings.evidence, 'hardware')}; threads per run: {seen(findings.evidence, 'threads')}."
            f" {runs['seconds'].mean() / 60:.2f} minutes per run and {runs['seconds'].sum() / 3600:.3f} hours in all of"
            " finished runs. Failed attempts and energy are not counted."
        )
    return Item(
        "Are hardware, time of a run and total compute given?",
        "NeurIPS 8; MLRC results 5, 6",
        answer,
        detail,
        f"{MANIFEST}, {RESULT}",
    )


def _ethics(findings: Findings) -> Iterator[Item]:
    is_own = findings.config.data.kind == "files"
    yield Item(
        "Does the paper follow the code of ethics, discuss impact and safeguards, and declare uses of language models?",
        "NeurIPS 9, 10, 11, 16",
        "for the authors",
        "Not recorded by runs.",
        "",
    )
    yield Item(
        "Were people studied or paid for annotation, and did a review board approve?",
        "NeurIPS 14, 15",
        "for the authors" if is_own else "does not apply",
        "The data are files of the authors." if is_own else "Pictures and captions are made by code.",
        CONFIG,
    )
