"""A reproducibility checklist, filled from configs, manifests and findings.

Items are those of the NeurIPS paper checklist (2025) and of the Machine Learning Reproducibility Checklist (Pineau et
al. 2021, JMLR 22, version 2.0), in our words. What runs cannot know is left to the authors, and said so.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial

from aimv2.analysis.document.model import Section, Table, stacked
from aimv2.analysis.document.template import blocks_of, one_line
from aimv2.analysis.inference.intervals import percent
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.sections.runs import credits_text
from aimv2.analysis.sections.words import seen
from aimv2.base.errors import REASONS


def section(findings: Findings) -> Section:
    """Return the checklist as a table, in the order of a paper: claims, setting, data, code, results, cost, people."""
    table = Table(["item", "of", "answer", "from"], name="checklist")

    def item(question: str, source: str, answer: str, origin: str, caller: Callable[[], str]) -> str:
        """Add an item of the template: the checklists that have it, its answer, and where that comes from."""
        table.rows.append([question, source, stacked(f"**{answer}**", one_line(caller())), origin])
        return ""

    study, evidence, search = findings.study, findings.evidence, findings.search
    mixture, runs = evidence.mixture, evidence.runs
    of_runs = map(str, runs["commit"]) if "commit" in runs else ()
    # A run has two if another commit trained its weights.
    commits = list(dict.fromkeys(one for commit in of_runs for one in commit.split("; ")))
    known = [one.difference for one in findings.comparisons.values() if one.difference.has_interval]
    num_trials = len(search.trials) if search else 0
    introduction = blocks_of(
        "checklist",
        item=item,
        findings=findings,
        words=Counter(str(verdict.word) for verdict in findings.verdicts.values()),
        all_trials=f"all {num_trials} trials" if num_trials != 1 else "the only trial",
        bad={reason: int(mixture[reason].sum()) for reason in REASONS if len(mixture) and mixture[reason].sum()},
        licences=credits_text(evidence.credits),
        commits=commits,
        is_changed=any(not one or one.endswith("+changes") for one in commits),
        num_seeds=len({cell.seed for cell in findings.cells}),
        how=evidence.evaluation(findings.metric),
        baseline=evidence.mean(findings.metric, study.baseline),
        known=known,
        covers=dict.fromkeys(one.covers for one in known),
        percent=percent,
        seen=partial(seen, evidence),
    )
    return Section("Reproducibility checklist", [*introduction, table])
