"""All studies by their names on the command line, in the order of listings."""

from importlib import import_module

from aimv2.ablations.study import Study

NAMES = (
    "sensitivity",
    "prefix_ratio",
    "prefix_distribution",
    "encoder_attention",
    "loss_weight",
    "loss_form",
    "decoder_width",
    "decoder_depth",
    "decoder_size",
    "decoder_sharing",
    "objective",
    "optimizer",
    "sample_efficiency",
    "batch_size",
    "caption_order",
    "eos",
    "norm_ffn",
    "positions",
    "patch_order",
    "crop_scale",
    "data_mix",
    "synthetic_fraction",
    "scaling",
    "resolution",
    "high_res_adaptation",
)

STUDIES: dict[str, Study] = {name: import_module(f"aimv2.ablations.studies.{name}").STUDY for name in NAMES}
