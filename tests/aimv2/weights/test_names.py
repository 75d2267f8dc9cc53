"""Tables of names: their expansion, and the tensors that they cover."""

from aimv2.tools.weights.names import ML_AIM, OURS, TIMM, TRANSFORMERS, TRANSFORMERS_PAIR, their_names

from aimv2.model.encoder import Encoder


def test_names_have_the_block_number_and_parts_in_order():
    ours = "encoder.blocks.10.attn.qkv.weight"
    stem = "encoder.layers.10.attention."
    expected = [f"{stem}q_proj.weight", f"{stem}k_proj.weight", f"{stem}v_proj.weight"]
    assert their_names(TRANSFORMERS, ours) == expected
    assert their_names(TRANSFORMERS_PAIR, ours) == [f"vision_model.{name}" for name in expected]
    text = [f"text_model.{name}" for name in expected]
    assert their_names(TRANSFORMERS_PAIR, "text_tower.blocks.10.attn.qkv.weight") == text
    assert their_names(TIMM, "encoder.blocks.0.ffn.gate_up.weight") == [
        "blocks.0.mlp.fc1_g.weight",
        "blocks.0.mlp.fc1_x.weight",
    ]
    assert their_names(ML_AIM, "encoder.norm.weight") == ["trunk.post_trunk_norm.weight"]
    assert their_names(OURS, ours) == [ours]


def test_every_table_has_every_tensor_of_the_encoder(tiny):
    ours = {f"encoder.{name}" for name in Encoder(tiny.model).state_dict()}
    for names in (TRANSFORMERS, TRANSFORMERS_PAIR, TIMM, ML_AIM):
        theirs = [name for each in ours for name in their_names(names, each)]
        assert len(theirs) == len(set(theirs))
        assert not ours & set(theirs)
