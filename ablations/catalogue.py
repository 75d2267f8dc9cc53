"""All studies by their names on the command line."""

from ablations.studies import (
    caption_order,
    data_mix,
    decoder_depth,
    decoder_sharing,
    decoder_width,
    encoder_attention,
    eos,
    loss_form,
    loss_weight,
    norm_ffn,
    objective,
    positions,
    prefix_distribution,
    prefix_ratio,
    resolution,
    scaling,
    synthetic_fraction,
)
from ablations.study import Study

STUDIES: dict[str, Study] = {
    module.STUDY.slug: module.STUDY
    for module in (
        prefix_ratio,
        prefix_distribution,
        encoder_attention,
        loss_weight,
        loss_form,
        decoder_width,
        decoder_depth,
        decoder_sharing,
        objective,
        caption_order,
        eos,
        norm_ffn,
        positions,
        data_mix,
        synthetic_fraction,
        scaling,
        resolution,
    )
}
