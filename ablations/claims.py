"""Claims of the paper that studies can decide, in our words. What must be seen if one holds, the study says."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement, and where AIMv2 (arXiv 2411.14402) or AIM v1 (arXiv 2401.08541) makes it."""

    id: str
    where: str
    statement: str


CLAIMS: dict[str, Claim] = {
    claim.id: claim
    for claim in (
        Claim(
            id="both-losses-beat-text-only",
            where="Table 9a",
            statement="Adding next-patch regression to captioning, with the same prefix encoder, improves the encoder.",
        ),
        Claim(
            id="both-losses-beat-image-only",
            where="Table 9a",
            statement="The image loss alone is far weaker than anything with captions.",
        ),
        Claim(
            id="prefix-beats-bidirectional-for-captioning",
            where="Table 9a",
            statement="For a captioner, a prefix-masked encoder beats a fully bidirectional one.",
        ),
        Claim(
            id="prefix-beats-causal",
            where="AIM v1 Table 3d and section 5.2, inherited by AIMv2 section 2.2",
            statement="After prefix training the mask can be dropped for inference; after causal training it cannot.",
        ),
        Claim(
            id="uniform-prefix-length",
            where="section 2.2",
            statement="Prefix lengths drawn uniformly on {1..I-1}, per image, are a good choice (never ablated).",
        ),
        Claim(
            id="alpha-insensitive",
            where="Table 9c",
            statement="Performance barely changes for alpha in {0.2, 0.4, 0.6}, and 0.4 is the best.",
        ),
        Claim(
            id="decoder-width-optimum",
            where="Table 9e",
            statement="A decoder as wide as the ViT-L encoder beats one half and one and a half times as wide.",
        ),
        Claim(
            id="decoder-depth-optimum",
            where="Table 9f",
            statement="Of 8, 12 and 16 decoder blocks 12 are best; a deeper decoder does not help.",
        ),
        Claim(
            id="joint-equals-separate-decoder",
            where="Table 9d",
            statement="One shared decoder matches two dedicated ones, and is simpler and cheaper.",
        ),
        Claim(
            id="image-first-order",
            where="section 2.1",
            statement="The image first conditions the text on vision and gives a better encoder than the text first.",
        ),
        Claim(
            id="swiglu-rmsnorm",
            where="section 2.2",
            statement="SwiGLU and RMSNorm are good choices for this model.",
        ),
        Claim(
            id="beats-clip-same-data",
            where="Table 9b",
            statement="With the same architecture and data, AIMv2 beats CLIP.",
        ),
        Claim(
            id="beats-cappa-same-data",
            where="Table 9b",
            statement="With the same architecture and data, AIMv2 beats CapPa.",
        ),
        Claim(
            id="scaling-params-probe",
            where="Table 3, Figure 3",
            statement="Frozen-probe accuracy rises with encoder size.",
        ),
        Claim(
            id="scaling-data-loss",
            where="Figure 2 left",
            statement="Validation text loss falls with more samples.",
        ),
        Claim(
            id="scaling-resolution",
            where="Figure 3, Table B2",
            statement="Accuracy rises with resolution.",
        ),
        Claim(
            id="data-mix",
            where="Table 2",
            statement="The sources in the paper's proportions are a good recipe: no public source alone does as well.",
        ),
        Claim(
            id="synthetic-captions",
            where="section 2.3, Table 2",
            statement="Mixing synthetic captions (33 % of samples) with alt-text helps.",
        ),
    )
}
