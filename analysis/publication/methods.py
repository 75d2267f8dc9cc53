"""A methods paragraph for a paper: what a study did, in the order of such paragraphs."""

from collections.abc import Iterator, Sequence

from ablations.claims import CLAIMS
from ablations.study import WINNER
from aimv2.config.data_config import source_name
from analysis.document.model import Bullets, Paragraph, Section, code_span, escape
from analysis.evidence.searches import Search
from analysis.inference.contrasts import APART, WIDER
from analysis.inference.intervals import LEVEL, POWER, Estimate, bonferroni, detectable_difference
from analysis.inference.looks import ALPHA
from analysis.judgement.controls import NULL_LEVEL, REQUIRED
from analysis.judgement.findings import Findings
from analysis.sections.search import range_of
from analysis.sections.words import metric_title, percent, seen

REFERENCES = {
    "Berger 1982": "R. L. Berger. Multiparameter hypothesis testing and acceptance sampling. Technometrics 24, 1982.",
    "Dunnett 1955": "C. W. Dunnett. A multiple comparison procedure for comparing several treatments with a control."
    " Journal of the American Statistical Association 50, 1955.",
    "Lan and DeMets 1983": "K. K. G. Lan and D. L. DeMets. Discrete sequential boundaries for clinical trials."
    " Biometrika 70, 1983.",
    "Satterthwaite 1946": "F. E. Satterthwaite. An approximate distribution of estimates of variance components."
    " Biometrics Bulletin 2, 1946.",
    "Schuirmann 1987": "D. J. Schuirmann. A comparison of the two one-sided tests procedure and the power approach for"
    " assessing the equivalence of average bioavailability. Journal of Pharmacokinetics and Biopharmaceutics 15, 1987.",
    "Welch 1947": "B. L. Welch. The generalization of “Student's” problem when several different population variances"
    " are involved. Biometrika 34, 1947.",
}
EQUAL = {
    "samples": "the same number of training samples",
    "flops": "the same training FLOPs",
    "seconds": "the same training time on the launching machine",
}


def section(findings: Findings) -> Section:
    """Return paragraphs to paste, and the references that they cite."""
    parts = [_design(findings), _inference(findings), _claims(findings), _checks(findings)]
    if findings.search is not None and not findings.compares:
        parts = [_search_alone(findings, findings.search)]
    paragraphs = [" ".join(sentences) for sentences in parts]
    text = " ".join(paragraphs)
    cited = [reference for name, reference in REFERENCES.items() if name in text]
    return Section(
        "Methods, to paste into a paper",
        [*(Paragraph(one) for one in paragraphs if one), *([Bullets(cited)] if cited else [])],
        is_folded=True,
    )


def _design(findings: Findings) -> Iterator[str]:
    study, config, cells = findings.study, findings.config, findings.cells
    arms = [arm for arm in findings.present([cell.arm for cell in cells]) if arm in study.arms]
    others = "; ".join(study.label(arm) for arm in arms if arm != study.baseline)
    seeds = sorted({cell.seed for cell in cells})
    yield (
        f"We compared {_count(len(arms) - 1, 'arm')} with the baseline *{study.label(study.baseline)}*: {others}"
        f" (design: {study.design.kind})."
    )
    if findings.search is not None and WINNER in study.arms:
        yield _searched(findings.search)
    yield (
        f"The design has {_count(len(seeds), 'seed')} of each arm, on {', '.join(map(_source, config.data.sources))},"
        f" with {config.budget.samples:,} samples in batches of {config.budget.batch_size} (baseline); arms have"
        f" {EQUAL[study.equal]}."
    )
    yield (
        "Arms with the same seed share images, order, crops, captions, and the initial values of weights that they have"
        " in common, so differences are paired by seed."
    )
    failed = {arm: findings.evidence.num_failed(arm) for arm in dict.fromkeys(cell.arm for cell in cells)}
    lost = [f"{number} of {study.label(arm)}" for arm, number in failed.items() if number]
    failures = f", and {sum(failed.values())} failed ({'; '.join(lost)})" if lost else ""
    yield (
        f"Of {_count(len(cells), 'run')}, controls and untrained encoders included, {len(findings.evidence.runs)}"
        f" finished{failures}."
    )
    yield _software(findings)


def _search_alone(findings: Findings, search: Search) -> Iterator[str]:
    """Yield what a search did that compares nothing."""
    study, config, evidence = findings.study, findings.config, findings.evidence
    aims = " and ".join(f"{one.direction} {escape(one.name)}" for one in search.metrics)
    num_pruned = len(search.in_state("pruned"))
    pruned = f", of which {num_pruned} {'was' if num_pruned == 1 else 'were'} pruned" if num_pruned else ""
    yield (
        f"We searched {'; '.join(map(range_of, search.space))} to {aims} on the {escape(search.split)} split, in"
        f" {_count(len(search.trials), 'trial')}{pruned} (sampler {code_span(search.sampler)}, pruner"
        f" {code_span(search.pruner)})."
    )
    if search.is_baseline:
        yield (
            f"The best of {_count(len(search.finished), 'finished trial')} was the baseline,"
            f" *{study.label(study.baseline)}*, so no arm was compared with it."
        )
    else:
        yield "Its best trial was not compared with the baseline." if search.finished else "No trial finished."
    yield (
        f"The baseline has {config.budget.samples:,} samples in batches of {config.budget.batch_size}, on"
        f" {', '.join(map(_source, config.data.sources))}; trials have {EQUAL[study.equal]}"
        f"{', unless they were pruned' * bool(pruned)}."
    )
    failed = evidence.num_failed(study.baseline)
    yield (
        f"The baseline was also run with {_count(len(findings.cells), 'seed')} that no trial had; {len(evidence.runs)}"
        f" of {len(findings.cells)} runs finished{f', and {failed} failed' if failed else ''}."
    )
    if software := _software(findings):
        yield software


def _searched(search: Search) -> str:
    return (
        f"The arm is the winner of a search of {_count(len(search.trials), 'trial')}, of which"
        f" {len(search.in_state('pruned'))} were pruned (sampler {code_span(search.sampler)}, pruner"
        f" {code_span(search.pruner)}). The search chose by {escape(search.metric.name)} on the {escape(search.split)}"
        " split, and did not use the seeds of this comparison."
    )


def _software(findings: Findings) -> str:
    evidence, config = findings.evidence, findings.config
    if evidence.runs.empty or "torch" not in evidence.runs:
        return ""
    return (
        f"They used PyTorch {seen(evidence, 'torch')} in {config.precision} on {seen(evidence, 'hardware')}"
        f" (CPU threads per run: {seen(evidence, 'threads')}); the code is commit {seen(evidence, 'commit')} (digest"
        f" {seen(evidence, 'code')})."
    )


def _inference(findings: Findings) -> Iterator[str]:
    study, unit, level = findings.study, escape(findings.unit), findings.look.level
    fixed = "the expected outcomes" if findings.search is None else "the winner"
    yield (
        f"The primary metric, the {metric_title(findings.metric)} ({_evaluation(findings)}), the equivalence margin of"
        f" {study.equivalence_margin:g} {unit} and {fixed} were fixed before the runs."
    )
    known = {arm: one.difference for arm, one in findings.comparisons.items() if one.difference.has_interval}
    if not known:
        yield "There are too few seeds for intervals, so nothing was tested."
        return
    yield from _errors(findings, known)
    yield (
        f"All intervals that decide have the level {percent(level)} %: this is look {findings.look.number} at the data,"
        f" and each look spends half of what is left of an error rate of {percent(ALPHA)} % (alpha spending; Lan and"
        " DeMets 1983)."
    )
    yield (
        "An arm differs if its interval excludes 0, and is equivalent if two one-sided tests at"
        f" {percent(1 - level)} % each rule out differences of the margin (Schuirmann 1987)."
    )
    detectable = [detectable_difference(one) for one in known.values()]
    yield (
        f"The minimum detectable difference at {percent(POWER)} % power was {_range(detectable, '.2g')} {unit}, from"
        " the noncentral t distribution and the observed spread."
    )


def _evaluation(findings: Findings) -> str:
    """Return how the primary metric was measured; a probe's hyperparameters are chosen in each run."""
    metrics = findings.evidence.metrics
    found = list(dict.fromkeys(metrics.loc[metrics["metric"] == findings.metric, "evaluation"]))
    if not found:
        return "not measured"
    return escape(found[0]) if len(found) == 1 else f"in one of the runs, which differ: {escape(found[0])}"


def _errors(findings: Findings, known: dict[str, Estimate]) -> Iterator[str]:
    """Yield how the differences from the baseline and their intervals were estimated."""
    label = findings.study.label
    pooled = {arm: one for arm, one in known.items() if one.error_from == "pooled"}
    own = {arm: one for arm, one in known.items() if one.error_from == "own"}
    numbers = _range([one.n for one in known.values()], "d")
    if pooled:
        yield (
            f"Differences from the baseline (n = {numbers} seeds) were estimated by least squares on arms and seeds,"
            " with seeds as fixed blocks and one error for all arms"
            f" ({_range([one.df for one in pooled.values()], '.3g')} degrees of freedom)."
        )
    if own:
        why = (
            f", because the spread of an arm was larger in an F test (levels {WIDER:g}, and {APART:g} to leave the"
            " pool) or the pool has no error for them"
            if pooled
            else ""
        )
        yield (
            f"The paired differences of {'; '.join(map(label, own))} from the baseline (n ="
            f" {_range([one.n for one in own.values()], 'd')} seeds) have their own standard error{why}, with intervals"
            " from Student's t."
        )
    if together := max((one.family for one in known.values()), default=1):
        yield (
            f"The intervals of {_count(together, 'comparison')} hold simultaneously (Dunnett 1955)."
            if together > 1
            else ""
        )
    if len(own) > 1 or (own and pooled):
        yield "Arms with their own error share the error rate by Bonferroni."
    covering = [arm for arm, one in known.items() if one.covers == "seeds and items"]
    if covering:
        whose = (
            "All intervals" if len(covering) == len(known) else f"The intervals of {'; '.join(map(label, covering))}"
        )
        yield (
            f"{whose} treat evaluation items as random too: the variance of items in a two-way crossed model of seeds"
            " and items is added to that over seeds, with degrees of freedom after Satterthwaite 1946."
        )
    else:
        yield "Intervals cover seeds and not evaluation items, so they hold for these items."


def _claims(findings: Findings) -> Iterator[str]:
    study, level = findings.study, findings.look.level
    if not study.claims:
        return
    number = len(study.claims)
    yield (
        f"{_count(number, 'claim')} of the paper {'was' if number == 1 else 'were'} judged by expectations that were"
        f" fixed before the runs,{' each' if number > 1 else ''} at {percent(bonferroni(number, level))} %"
        f"{' (Bonferroni over claims)' if number > 1 else ''}."
    )
    yield "A claim is supported if all its expectations hold (intersection-union test; Berger 1982)."
    by_all = [name for name in study.claims if CLAIMS[name].contradicted_by == "all"]
    if len(by_all) < number:
        yield (
            "A claim is contradicted, or its effect smaller than claimed, if one expectation shows that, where the"
            " expectations of a claim share its level by Bonferroni."
        )
    if by_all:
        yield f"For {', '.join(by_all)} this takes all expectations, each at the full level."


def _checks(findings: Findings) -> Iterator[str]:
    """Yield the controls, the sensitivity, and what else limits the conclusions."""
    study = findings.study
    explained = {
        "null_control": f"a null control, the baseline with other seeds, must not differ (unpaired, Welch 1947, at"
        f" {percent(NULL_LEVEL)} %)",
        "positive_control": "a positive control, shuffled captions, must be worse (paired by seed, its own error, at"
        f" {percent(LEVEL)} %)",
    }
    present = [explained[name] for name in REQUIRED if name in study.controls]
    if present:
        passed = sum(one.result == "passed" for one in findings.controls)
        yield (
            f"In every metric that decides, {' and '.join(present)}; {passed} of"
            f" {_count(len(findings.controls), 'such test')} passed."
        )
    if findings.ladder is None:
        known, metrics = findings.sensitivity, study.deciding_metrics
        able = [metric for metric in metrics if metric in known and known[metric].tells_small_steps]
        yield (
            "A metric decides only if a sensitivity study on the same baseline showed that it tells known small effects"
            f" apart; of {', '.join(map(escape, metrics))}, {'all do' if able == metrics else _those(able)}."
        )
    others = len(set(findings.evidence.metrics["metric"]) - {study.primary_metric})
    if others:
        families = others * (1 + len(study.controls))
        yield (
            f"The {_count(others, 'other metric')} {'is' if others == 1 else 'are'} exploratory; differences in them"
            f" are named only if they exclude 0 at {percent(bonferroni(families))} % (Bonferroni over metrics and"
            " controls)."
        )
    if findings.withheld:
        yield f"Nothing is concluded in the primary metric: {'; '.join(findings.withheld)}."
    elif not_judged := list(dict.fromkeys(one.withheld for one in findings.comparisons.values() if one.withheld)):
        yield f"Not judged: {'; '.join(not_judged)}."


def _those(able: Sequence[str]) -> str:
    return f"only {', '.join(map(escape, able))} {'does' if len(able) == 1 else 'do'}" if able else "none does"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _range(values: Sequence[float], form: str) -> str:
    """Return the smallest and the largest value, or the only one."""
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def _source(source: str) -> str:
    return escape(source_name(source))
