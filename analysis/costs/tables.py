"""Sections of a cost study's report, from its measurements."""

from collections.abc import Sequence

from aimv2.analysis.costs.measurements import (
    ARCHITECTURES,
    OURS,
    EncoderCost,
    EncoderSetting,
    Measurements,
    ObjectiveCost,
    TrainingSetting,
)
from aimv2.analysis.costs.ratios import Median, percentile, relative
from aimv2.analysis.document.model import Block, Paragraph, Section, Table

INTERVALS = (
    "Ratios are medians over rounds of the ratio of two timings in the same round; their intervals, of at least 95 %,"
    " come from order statistics."
)


def encoders_section(measurements: Measurements) -> Section:
    """Return a table for each number of patches."""
    unit = _unit(measurements)
    columns = ["precision", "batch", "encoder", f"p50, {unit}", f"p95, {unit}", f"images / {unit.replace('ms', 's')}"]
    columns += ["time / AIMv2", "FLOPs / AIMv2", "rate / matrix product's", "peak, MB", "weights, MB"]
    blocks: list[Block] = []
    for patches in dict.fromkeys(setting.patches for setting in measurements.encoders):
        settings = [setting for setting in measurements.encoders if setting.patches == patches]
        rows = [_encoder_row(setting, one) for setting in settings for one in setting.encoders]
        caption = _rounds(settings) + f" {INTERVALS}"
        sizes = ", ".join(f"{ARCHITECTURES[one.encoder].title} {one.image_px} px" for one in settings[0].encoders)
        table = Table(columns, rows, name=f"encoders-{patches}", caption=caption)
        blocks.append(Section(f"{patches} patches", [Paragraph(f"Images: {sizes}."), table]))
    return Section("Encoders", blocks)


def _rounds(settings: Sequence[EncoderSetting]) -> str:
    counts = {setting.batch_size: len(setting.product_seconds) for setting in settings}
    text = ", ".join(f"{count} calls at batch {batch_size}" for batch_size, count in counts.items())
    return f"p50 and p95 are percentiles of {text}; with few calls, the 95th percentile is close to the maximum."


def _encoder_row(setting: EncoderSetting, one: EncoderCost) -> list[str]:
    ours = next(other for other in setting.encoders if other.encoder == OURS)
    p50, p95 = (percentile(one.seconds, share) for share in (0.5, 0.95))
    time = "1" if one is ours else _ratio_cell(relative(one.seconds, ours.seconds))
    return [
        setting.precision,
        str(setting.batch_size),
        ARCHITECTURES[one.encoder].title,
        _number(1000 * p50, ".4g"),
        _number(1000 * p95, ".4g"),
        _number(setting.batch_size / p50, ".3g"),
        time,
        _number(one.flops / ours.flops, ".3f"),
        _number(_rate_share(setting, one), ".0%"),
        _number(one.peak_bytes / 1e6, ",.0f"),
        _number(one.parameter_bytes / 1e6, ",.0f"),
    ]


def _rate_share(setting: EncoderSetting, one: EncoderCost) -> float:
    """Return an encoder's FLOP rate as a share of that of the FFN's matrix product."""
    rate = setting.batch_size * one.flops / percentile(one.seconds, 0.5)
    return rate / (setting.product_flops / percentile(setting.product_seconds, 0.5))


def flops_section(settings: Sequence[EncoderSetting]) -> Section:
    """Return parameters and FLOPs, counted and as a closed form."""
    columns = ["patches", "encoder", "positions", "parameters, M", "GFLOPs / image, counted", "closed form"]
    rows: list[list[str]] = []
    for setting in {one.patches: one for one in settings}.values():
        for one in setting.encoders:
            closed_form = "" if one.closed_form is None else _number(one.closed_form / 1e9, ".3f")
            name, parameters = ARCHITECTURES[one.encoder].title, _number(one.parameters / 1e6, ".1f")
            counted = _number(one.flops / 1e9, ".3f")
            rows.append([str(setting.patches), name, str(one.num_tokens), parameters, counted, closed_form])
    caption = (
        "A multiply and an add are 2 FLOPs. CLIP and DINOv2 have a class token, SigLIP and AIMv2 have none; no encoder"
        " has registers. The pooling of SigLIP is left out."
    )
    return Section("FLOPs of the encoders", [Table(columns, rows, name="flops", caption=caption)])


def training_section(measurements: Measurements) -> Section:
    """Return a table for each scale."""
    unit, blocks = _unit(measurements), list[Block]()
    for setting in measurements.training:
        is_timed = setting.cpu_share is not None
        columns = ["objective", "parameters, M", "GFLOPs / sample", "FLOPs / aimv2"]
        if is_timed:
            columns += [f"{unit} / sample", "time / aimv2", "peak of a step, MB"]
        text = f"{setting.description}; batches of {setting.batch_size}, captions of {setting.text_tokens} tokens."
        rows = [_objective_row(setting, one) for one in setting.objectives]
        table = Table(columns, rows, name=f"objectives-{len(blocks)}")
        blocks.append(Section(f"`{setting.scale}`", [Paragraph(text[0].upper() + text[1:]), table]))
    return Section("Training", blocks)


def _objective_row(setting: TrainingSetting, one: ObjectiveCost) -> list[str]:
    ours = next(other for other in setting.objectives if other.objective == OURS)
    row: list[str] = [
        f"`{one.objective}`",
        _number(one.parameters / 1e6, ".1f"),
        _number(one.flops / 1e9, ".4g"),
        _number(one.flops / ours.flops, ".3f"),
    ]
    if one.seconds:
        row += [
            _number(1000 * percentile(one.seconds, 0.5) / setting.batch_size, ".4g"),
            "1" if one is ours else _ratio_cell(relative(one.seconds, ours.seconds)),
            _number(one.peak_bytes / 1e6, ",.0f"),
        ]
    return row


def _unit(measurements: Measurements) -> str:
    return "CPU ms" if measurements.clock == "cpu" else "ms"


def _number(value: float, form: str) -> str:
    return format(value, form)


def _ratio_cell(one: Median) -> str:
    return one.text
