"""Seconds of a run on the machine on which these constants were measured, in closed form. Nothing here imports torch.

Only ratios count: the time of a run is that of a measured one, times the ratio of their effort.
"""

from dataclasses import replace

from aimv2.config.run_config import RunConfig
from aimv2.cost.modules import decoder_cost, encoder_part, text_head_cost
from aimv2.cost.parts import forward_flops, train_flops
from aimv2.spec.objectives import objective

# One core of an AMD EPYC with models of demo and laptop (docs/cost.md). Those of CUDA were not measured.
FLOPS = {"cpu": 5.2e10, "cuda": 2e13}  # a second
BLOCK_SECONDS = 1.5e-3  # of a step, besides its FLOPs
PIXEL_SECONDS = 4e-7  # of rendering a picture and reading its captions
PROBE_SECONDS = 1e-5  # of an image in an epoch of a probe, for each setting
START_SECONDS = 0.6
CURVE_SHARE = 0.5  # of a training sample's seconds: a pair of the held-out curve
DIGITS = 1797  # images of a set on which every run is probed
SCENE_PROBES = 6


def training_effort(config: RunConfig) -> float:
    """Return the seconds of a training sample."""
    parts = objective(config.objective.name).cost(config)
    blocks = sum(part.blocks.number for part in parts if part.blocks is not None)
    flops = train_flops(parts, 1, config.model.max_text_tokens)
    return flops / FLOPS[config.device] + blocks * BLOCK_SECONDS / config.budget.batch_size


def evaluation_effort(config: RunConfig) -> float:
    """Return the seconds of the start and of the evaluation at the end, without the curve.

    Of a metric that is measured alone they are those of the features that it reads.
    """
    model, options, goal = config.model, config.evaluation, objective(config.objective.name)
    encoded_once = forward_flops([encoder_part(model, model.encoder, useful_share=1.0)], 1, 0)
    if options.alone is not None:
        rendered = config.data.render_px**2 * PIXEL_SECONDS
        return float(START_SECONDS + options.num_items * (rendered + encoded_once / FLOPS[config.device]))
    reader, probe, text = options.reader, options.probe, model.max_text_tokens
    scenes = options.num_probe_scenes * config.data.has_scenes
    read = reader.pairs * bool(reader.samples)
    labelled = DIGITS + options.set_images * len(options.sets)

    passes = {"captions": 3 * options.num_items, "pixels": len(options.prefix_fractions) * options.num_pairs}
    decoded = sum(passes.get(report, options.num_pairs) for report in goal.reports)
    others = [part for part in goal.cost(config) if part.module != "encoder" and part.is_in_network]
    flops = decoded * forward_flops(others, 1, text)
    encoded = 2 * options.num_items + options.num_pairs + read + 2 * scenes + labelled
    flops += encoded * encoded_once
    steps = 0.0
    if reader.samples:
        as_reader = replace(config, model=replace(model, decoder=reader.decoder))
        parts = [decoder_cost(as_reader, "reader", "", reads_text=True), text_head_cost(as_reader, "")]
        trained = reader.samples + reader.questions
        flops += train_flops(parts, trained, trained * text) + passes["captions"] * forward_flops(parts, 1, text)
        steps = trained / reader.batch_size * reader.depth

    probed = probe.epochs * len(probe.learning_rates) * len(probe.weight_decays) * (SCENE_PROBES * scenes + labelled)
    flops += probed * 2 * model.num_patches * model.encoder.width**2
    pixels = config.data.render_px**2 * (options.num_items + options.num_pairs + read + scenes)
    seconds = START_SECONDS + steps * BLOCK_SECONDS + pixels * PIXEL_SECONDS + probed * PROBE_SECONDS
    return float(seconds + flops / FLOPS[config.device])
