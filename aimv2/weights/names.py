"""Tables from our names of tensors to those of other packages.

``#`` is the number of a block. If one of our tensors is several of theirs, stacked, braces list the differing parts.
"""

import re
from collections.abc import Mapping

Names = Mapping[str, str]

OURS: Names = {}  # a name that is not in a table stays as it is
TRANSFORMERS: Names = {
    "encoder.patch_embed.weight": "embeddings.patch_embed.weight",
    "encoder.patch_embed.bias": "embeddings.patch_embed.bias",
    "encoder.patch_norm.weight": "embeddings.rms_norm.weight",
    "encoder.pos_embed": "embeddings.position_embedding.weight",
    "encoder.blocks.#.norm1.weight": "encoder.layers.#.rms_norm1.weight",
    "encoder.blocks.#.attn.qkv.weight": "encoder.layers.#.attention.{q,k,v}_proj.weight",
    "encoder.blocks.#.attn.out.weight": "encoder.layers.#.attention.out_proj.weight",
    "encoder.blocks.#.norm2.weight": "encoder.layers.#.rms_norm2.weight",
    "encoder.blocks.#.ffn.gate_up.weight": "encoder.layers.#.ffn.{gate,up}_proj.weight",
    "encoder.blocks.#.ffn.down.weight": "encoder.layers.#.ffn.down_proj.weight",
    "encoder.norm.weight": "rms_norm.weight",
}
TRANSFORMERS_PAIR: Names = {
    **{ours: f"vision_model.{theirs}" for ours, theirs in TRANSFORMERS.items()},
    "image_head.query": "vision_model.head.cls_token",
    "image_head.key_value.weight": "vision_model.head.{k,v}_proj.weight",
    "image_head.out.weight": "vision_model.head.output_proj.weight",
    "image_head.out.bias": "vision_model.head.output_proj.bias",
    "image_head.proj.weight": "visual_projection.weight",
    "text_tower.text_embed.weight": "text_model.embeddings.token_embedding.weight",
    "text_tower.text_pos_embed": "text_model.embeddings.position_embedding.weight",
    **{
        ours.replace("encoder", "text_tower"): f"text_model.{theirs}"
        for ours, theirs in TRANSFORMERS.items()
        if "#" in ours
    },
    "text_tower.norm.weight": "text_model.rms_norm.weight",
    "text_tower.proj.weight": "text_projection.weight",
    "similarity.logit_scale": "logit_scale",
}
TIMM: Names = {
    "encoder.patch_embed.weight": "patch_embed.proj.weight",
    "encoder.patch_embed.bias": "patch_embed.proj.bias",
    "encoder.patch_norm.weight": "patch_embed.norm.weight",
    "encoder.pos_embed": "pos_embed",
    "encoder.blocks.#.norm1.weight": "blocks.#.norm1.weight",
    "encoder.blocks.#.attn.qkv.weight": "blocks.#.attn.qkv.weight",
    "encoder.blocks.#.attn.out.weight": "blocks.#.attn.proj.weight",
    "encoder.blocks.#.norm2.weight": "blocks.#.norm2.weight",
    "encoder.blocks.#.ffn.gate_up.weight": "blocks.#.mlp.fc1_{g,x}.weight",
    "encoder.blocks.#.ffn.down.weight": "blocks.#.mlp.fc2.weight",
    "encoder.norm.weight": "norm.weight",
}
ML_AIM: Names = {
    "encoder.patch_embed.weight": "preprocessor.patchifier.proj.weight",
    "encoder.patch_embed.bias": "preprocessor.patchifier.proj.bias",
    "encoder.patch_norm.weight": "preprocessor.patchifier.norm.weight",
    "encoder.pos_embed": "preprocessor.pos_embed",
    "encoder.blocks.#.norm1.weight": "trunk.blocks.#.norm_1.weight",
    "encoder.blocks.#.attn.qkv.weight": "trunk.blocks.#.attn.qkv.weight",
    "encoder.blocks.#.attn.out.weight": "trunk.blocks.#.attn.proj.weight",
    "encoder.blocks.#.norm2.weight": "trunk.blocks.#.norm_2.weight",
    "encoder.blocks.#.ffn.gate_up.weight": "trunk.blocks.#.mlp.{fc1,fc3}.weight",
    "encoder.blocks.#.ffn.down.weight": "trunk.blocks.#.mlp.fc2.weight",
    "encoder.norm.weight": "trunk.post_trunk_norm.weight",
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
    start, _, rest = names.get(template, template).partition("{")
    parts, _, end = rest.partition("}")
    return [(start + part + end).replace("#", number) for part in parts.split(",")]
