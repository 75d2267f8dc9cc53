"""Claims of the paper that studies can decide, in our words. Studies say what must be observed if a claim holds."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of AIMv2 (arXiv 2411.14402) or AIM v1 (arXiv 2401.08541), its source, and what would contradict it.

    Attributes:
        contradicted_if: in words; the study's expectations give arms and metrics.
        contradicted_by: ``any`` if one expectation that is contradicted, or smaller than claimed, makes the claim so;
            ``all`` if it takes all of them.
    """

    where: str
    statement: str
    contradicted_if: str
    contradicted_by: Literal["any", "all"] = "any"


# An effect that is shown to be smaller than the paper's is "smaller than claimed", and an interval that merely includes
# zero contradicts nothing (docs/statistics.md). ``contradicted_if`` states the rest.
CLAIMS = {
    "both-losses-beat-text-only": Claim(
        where="Table 9a",
        statement="Adding next-patch regression to captioning, with the same prefix encoder, improves the encoder.",
        contradicted_if="the encoder is worse with both losses than with captions alone",
    ),
    "both-losses-beat-image-only": Claim(
        where="Table 9a",
        statement="The image loss alone gives a far weaker encoder than any objective with captions.",
        contradicted_if="the encoder is better with the image loss alone than with both losses",
    ),
    "prefix-beats-bidirectional-for-captioning": Claim(
        where="Table 9a",
        statement="For a captioner, a prefix-masked encoder beats a fully bidirectional one.",
        contradicted_if="bidirectional attention is better, both for the encoder and in the loss of content words",
        contradicted_by="all",
    ),
    "prefix-beats-causal": Claim(
        where="AIM v1 Table 3d and section 5.2, inherited by AIMv2 section 2.2",
        statement="After prefix training, the mask can be removed for inference; after causal training, it cannot.",
        contradicted_if="the causal encoder is better without its mask than with it, or the prefix encoder without its"
        " mask is worse, by more than the margin, than with it or than the causal encoder without",
    ),
    "prefix-without-mask-is-best": Claim(
        where="AIM v1 section 5.2, inherited by AIMv2 section 2.2",
        statement="The prefix-trained encoder without its mask is as good as with it, and as the causally trained one"
        " with or without its mask.",
        contradicted_if="one of these three is better by more than the margin",
    ),
    "prefix-beats-causal-probe": Claim(
        where="AIM v1 Table 3d and section 5.2",
        statement="The same by a frozen probe: the causally trained encoder is worse without its mask, and the"
        " prefix-trained one without its mask is the best of the four.",
        contradicted_if="the causal encoder is better without its mask than with it, or one of the three others is"
        " better, by more than the margin, than the prefix-trained encoder without its mask",
    ),
    "uniform-prefix-length": Claim(
        where="section 2.2",
        statement="Prefix lengths drawn uniformly from {1..I-1}, per image, are a good choice (never ablated).",
        contradicted_if="another distribution of prefix lengths is better by more than the margin",
    ),
    "alpha-insensitive": Claim(
        where="Table 9c; that 0.4 is the best there, by 0.1 to 0.2 points, is not judged",
        statement="Performance barely changes for alpha in {0.2, 0.4, 0.6}.",
        contradicted_if="any two of 0.2, 0.4 and 0.6 differ by more than the margin",
    ),
    "v1-normalised-pixels": Claim(
        where="AIM v1 Table 3a",
        statement="Pixels that are normalised per patch are a better target than raw ones.",
        contradicted_if="the encoder is better with raw targets",
    ),
    "decoder-width-optimum": Claim(
        where="Table 9e",
        statement="A decoder as wide as the ViT-L encoder beats one of half and one of 1.5 times that width.",
        contradicted_if="half or 1.5 times the width is better",
    ),
    "decoder-depth-optimum": Claim(
        where="Table 9f",
        statement="Of 8, 12 and 16 decoder blocks, 12 are best; a deeper decoder does not help.",
        contradicted_if="8 blocks are better than 12, or 16 are better by more than the margin",
    ),
    "joint-equals-separate-decoder": Claim(
        where="Table 9d",
        statement="One shared decoder matches two dedicated ones, and is simpler and cheaper.",
        contradicted_if="separate decoders are better by more than the margin, or take less time per sample",
    ),
    "image-first-order": Claim(
        where="section 2.1",
        statement="With the image first, the text is conditioned on it, and the encoder is better.",
        contradicted_if="the text first gives a better encoder",
    ),
    "swiglu-rmsnorm": Claim(
        where="section 2.2",
        statement="SwiGLU and RMSNorm are good choices for this model.",
        contradicted_if="GELU or LayerNorm is better",
    ),
    "beats-clip-same-data": Claim(
        where="Table 9b",
        statement="With the same architecture and data, AIMv2 beats CLIP, even with twice the batch.",
        contradicted_if="the encoder of CLIP is better, with the same or twice the batch, at equal samples or equal"
        " FLOPs",
    ),
    "beats-cappa-same-data": Claim(
        where="Table 9b",
        statement="With the same architecture and data, AIMv2 beats CapPa.",
        contradicted_if="the encoder of CapPa is better",
    ),
    "scaling-params-probe": Claim(
        where="Table 3, Figure 3",
        statement="Frozen-probe accuracy rises with encoder size.",
        contradicted_if="an encoder is worse than the next smaller one by more than the margin, or the largest is worse"
        " than the smallest",
    ),
    "scaling-data-loss": Claim(
        where="Figure 2 left",
        statement="Validation text loss falls with more samples.",
        contradicted_if="the loss rises with more samples (whether small models flatten earlier is not judged)",
    ),
    "scaling-resolution": Claim(
        where="Figure 3, Table B2, where larger images also had more samples",
        statement="Accuracy rises with resolution.",
        contradicted_if="a higher resolution harms, at equal samples or at equal FLOPs",
    ),
    "data-mix": Claim(
        where="Table 2",
        statement="A mixture of sources in the paper's proportions is better than any public source alone.",
        contradicted_if="a single public source is better",
    ),
    "synthetic-captions": Claim(
        where="section 2.3, Table 2",
        statement="Mixing synthetic captions (33 % of samples) with alt-text helps the encoder.",
        contradicted_if="alt-text alone or synthetic captions alone are better",
    ),
}
