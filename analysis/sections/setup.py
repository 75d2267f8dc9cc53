"""Arms, scale, data, hardware and software of a study's runs."""

from aimv2.config.data_config import is_described, source_name
from analysis.document.model import Paragraph, Section, Table, escape
from analysis.judgement.findings import Findings
from analysis.sections.sources import credits_text, mixture_table, repeats
from analysis.sections.words import seen


def section(findings: Findings) -> Section:
    """Return the setup, what training showed of each source, and the sources' licences."""
    blocks: list[Table | Paragraph] = [_setup(findings)]
    mixture = mixture_table(findings.study, findings.evidence)
    if mixture.rows:
        blocks += [Paragraph("What training showed, and the samples that it could not use and replaced:"), mixture]
        if notes := repeats(findings.study, findings.evidence):
            blocks.append(Paragraph(" ".join(notes)))
    return Section("Setup", [*blocks, Paragraph(credits_text(findings.evidence.credits))], is_folded=True)


def _setup(findings: Findings) -> Table:
    study, cells, config, evidence = findings.study, findings.cells, findings.config, findings.evidence
    model, budget = config.model, config.budget
    requested = {cell.arm for cell in cells}
    stack = "{0.width} wide, {0.depth} deep, {0.num_heads} heads"
    steps = f"{budget.samples:,} samples per run in batches of {budget.batch_size}"
    patches = f"{model.image_px} px images in I = {model.num_patches} patches"
    hardware, software = (seen(evidence, name) for name in ("hardware", "torch"))
    kind = study.design.kind if findings.compares else "search without a confirmation"
    rows = {
        "arms": "; ".join(f"{name}: {arm.label}" for name, arm in study.arms.items() if name in requested),
        "design": f"{kind}; baseline {study.baseline}; equal {study.equal}",
        "seeds": ", ".join(str(seed) for seed in sorted({cell.seed for cell in cells})),
        "runs": f"{len(evidence.runs)} of {len(cells)} finished",
        "scale": f"{config.scale}: {steps}, peak learning rate {config.optimizer.peak_lr:g}",
        "encoder": f"{stack.format(model.encoder)}, {_size(findings, 'encoder')}; {patches}",
        "decoder": f"{stack.format(model.decoder)}, {_size(findings, 'other')}, heads included;"
        f" {model.vocab_size} tokens",
        "data": _data(findings),
        "hardware": f"{hardware}; threads per run: {seen(evidence, 'threads')}; {config.precision}",
        "software": f"torch {software}; commit {seen(evidence, 'commit')}; code {seen(evidence, 'code')}",
    }
    return Table(["", ""], [list(row) for row in rows.items()], name="setup")


def _data(findings: Findings) -> str:
    config, evidence = findings.config, findings.evidence
    pairs = f"{seen(evidence, 'train_pairs')} training pairs, {seen(evidence, 'held_out_pairs')} held-out pairs"
    if config.data.has_scenes:
        pairs += f" of other compositions; {config.data.scenes.num_objects} objects of each source"
    share: float | None = config.data.dense_fraction
    if config.data.kind == "files" or config.data.dense_fractions is not None:  # sources differ in their share
        share = evidence.dense_share(findings.study.baseline)
    if share is not None:
        pairs += f"; {100 * share:.0f} % of the samples show the dense caption"
    return f"{', '.join(map(_name, config.data.sources))}: {pairs}"


def _size(findings: Findings, part: str) -> str:
    runs, column = findings.evidence.runs, f"{part}_parameters"
    return f"{runs[column].iloc[0] / 1e6:.2f} M parameters" if column in runs else "parameters unknown"


def _name(source: str) -> str:
    return escape(source_name(source)) if is_described(source) else source
