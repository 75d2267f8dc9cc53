"""The card of a study's archive: what was asked and found, what the files are, of which data and at what cost."""

import yaml

from aimv2.ablations.claims import CLAIMS
from aimv2.analysis.document.template import ENVIRONMENT
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.sections.summary import answer
from aimv2.analysis.sections.tables import seen
from aimv2.base.errors import count, escape
from aimv2.run.price import duration
from aimv2.tools.weights.card import licence_metadata


def verdict_lines(findings: Findings) -> list[str]:
    """Return the study's answer, and its verdict on each claim with what qualifies it."""
    lines = [answer(findings)]
    for name, verdict in findings.verdicts.items():
        word = "; ".join([f"**{verdict.word}**", *verdict.qualifications])
        lines.append(f"{name}: {CLAIMS[name].statement} At scale {findings.config.label}: {word}.")
    return lines


def dataset_card(findings: Findings, licence: str = "") -> str:
    """Return the card as Markdown with the metadata that hubs of data sets read.

    Args:
        licence: of the records, an SPDX identifier; empty is left open.
    """
    study, runs, name = findings.study, findings.evidence.runs, findings.request.folder
    metadata = {
        **licence_metadata(licence, "README.md#data"),
        "pretty_name": f"{name}: records of a study on AIMv2",
        "tags": ["aimv2", "ablation", "records"],
        "configs": [{"config_name": "default", "data_files": "records.parquet"}],
    }
    time, flops = duration(float(runs["seconds"].sum())), float(runs["train_flops"].sum())
    arms = [
        f"{study.label(arm)}: {count(len(own), 'run')}, seeds {', '.join(map(str, sorted(own['seed'])))}"
        for arm in findings.present(list(runs["arm"].unique()))
        if len(own := runs[runs["arm"] == arm])
    ]
    return ENVIRONMENT.get_template("dataset_card.md.j2").render(
        metadata=yaml.safe_dump(metadata, sort_keys=False),
        name=name,
        question=escape(study.question),
        source=study.source,
        verdicts=verdict_lines(findings),
        num_cells=len(findings.cells),
        num_runs=len(runs),
        sources=list(findings.evidence.credits["sources"]),
        sets=list(findings.evidence.credits["sets"]),
        arms=arms,
        cost=f"{flops:.3g} training FLOPs and {time} on {seen(findings.evidence, 'hardware')}.",
        scale=findings.config.label,
    )
