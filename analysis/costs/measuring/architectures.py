"""The encoders that a cost study compares, by name."""

from dataclasses import dataclass

OURS = "aimv2"  # name of our encoder and of our objective, the reference of all ratios


@dataclass(frozen=True)
class Architecture:
    """An encoder of the size of ViT-L.

    Attributes:
        title: its name in reports.
        package: the package that defines it, as ``import`` names it.
        distribution: the same as ``pip`` names it.
        class_tokens: positions of the blocks that are no patches.
    """

    title: str
    package: str
    distribution: str
    patch_px: int
    class_tokens: int


ARCHITECTURES = {
    OURS: Architecture("AIMv2 ViT-L/14", "aimv2", "aimv2-ablations", 14, 0),
    "clip": Architecture("CLIP ViT-L/14", "open_clip", "open_clip_torch", 14, 1),
    "siglip": Architecture("SigLIP ViT-L/16", "timm", "timm", 16, 0),
    "dinov2": Architecture("DINOv2 ViT-L/14", "timm", "timm", 14, 1),
}
