"""Tables from our names of tensors to those of other packages.

A row is a module with its ``weight`` and ``bias``, or a single tensor. ``#`` is the number of a block. If one of our
tensors is several of theirs, stacked, braces list the differing parts.
"""

import re
from collections.abc import Mapping

Names = Mapping[str, str]

OURS: Names = {}  # a name that is not in a table stays as it is
ENCODER = {  # ours: transformers, timm, ml-aim
    "patch_embed": ("embeddings.patch_embed", "patch_embed.proj", "preprocessor.patchifier.proj"),
    "patch_norm": ("embeddings.rms_norm", "patch_embed.norm", "preprocessor.patchifier.norm"),
    "pos_embed": ("embeddings.position_embedding.weight", "pos_embed", "preprocessor.pos_embed"),
    "blocks.#.norm1": ("encoder.layers.#.rms_norm1", "blocks.#.norm1", "trunk.blocks.#.norm_1"),
    "blocks.#.attn.qkv": ("encoder.layers.#.attention.{q,k,v}_proj", "blocks.#.attn.qkv", "trunk.blocks.#.attn.qkv"),
    "blocks.#.attn.out": ("encoder.layers.#.attention.out_proj", "blocks.#.attn.proj", "trunk.blocks.#.attn.proj"),
    "blocks.#.norm2": ("encoder.layers.#.rms_norm2", "blocks.#.norm2", "trunk.blocks.#.norm_2"),
    "blocks.#.ffn.gate_up": (
        "encoder.layers.#.ffn.{gate,up}_proj",
        "blocks.#.mlp.fc1_{g,x}",
        "trunk.blocks.#.mlp.{fc1,fc3}",
    ),
    "blocks.#.ffn.down": ("encoder.layers.#.ffn.down_proj", "blocks.#.mlp.fc2", "trunk.blocks.#.mlp.fc2"),
    "norm": ("rms_norm", "norm", "trunk.post_trunk_norm"),
}
TRANSFORMERS: Names
TIMM: Names
ML_AIM: Names
TRANSFORMERS, TIMM, ML_AIM = (
    {f"encoder.{ours}": theirs[column] for ours, theirs in ENCODER.items()} for column in range(3)
)
TRANSFORMERS_PAIR: Names = {
    **{ours: f"vision_model.{theirs}" for ours, theirs in TRANSFORMERS.items()},
    "image_head.query": "vision_model.head.cls_token",
    "image_head.key_value": "vision_model.head.{k,v}_proj",
    "image_head.out": "vision_model.head.output_proj",
    "image_head.proj": "visual_projection",
    "text_tower.text_embed": "text_model.embeddings.token_embedding",
    "text_tower.text_pos_embed": "text_model.embeddings.position_embedding.weight",
    **{f"text_tower.{ours}": f"text_model.{theirs[0]}" for ours, theirs in ENCODER.items() if "#" in ours},
    "text_tower.norm": "text_model.rms_norm",
    "text_tower.proj": "text_projection",
    "similarity.logit_scale": "logit_scale",
}

# Heads that their models may have behind the encoder, and ours do not.
TRANSFORMERS_HEAD = tuple(
    f"head.{name}" for name in ("cls_token", "k_proj.weight", "v_proj.weight", "output_proj.weight", "output_proj.bias")
)
TIMM_HEAD = ("head.weight", "head.bias")

PATCHES, POSITIONS = "encoder.patch_embed.weight", "encoder.pos_embed"
FFN = "encoder.blocks.0.ffn.gate_up.weight"
FLAT_TABLES = {TRANSFORMERS[POSITIONS], TRANSFORMERS_PAIR[POSITIONS]}  # [I, D]; ours and the others' are [1, I, D]


def their_names(names: Names, ours: str) -> list[str]:
    """Return their names of the parts of one of our tensors, in order."""
    block = re.search(r"\.(\d+)\.", ours)
    template, number = (ours.replace(block[0], ".#.", 1), block[1]) if block else (ours, "")
    module, dot, kind = template.rpartition(".")
    start, _, rest = names.get(template, names.get(module, module) + dot + kind).partition("{")
    parts, _, end = rest.partition("}")
    return [(start + part + end).replace("#", number) for part in parts.split(",")]
