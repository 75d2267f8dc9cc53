"""Tensors that are not those of an AIMv2 are refused with the reason."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from aimv2.tools.weights import read_published

GATE, TABLE = "encoder.layers.0.ffn.gate_proj.weight", "embeddings.position_embedding.weight"
PATCHES = "embeddings.patch_embed.weight"


def change(folder, edit):
    path = folder / "model.safetensors"
    state = {name: value.clone() for name, value in load_file(path).items()}
    edit(state)
    save_file(state, path)


def without(*parts):
    def edit(state):
        for name in [name for name in state if any(part in name for part in parts)]:
            del state[name]

    return edit


def with_one(name, value):
    return lambda state: state.update({name: value})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without(GATE), f"1 missing ('{GATE}')"),
        (without(PATCHES.replace("weight", "bias")), "1 missing"),
        (without("layers.0"), "9 missing ('encoder.layers.0."),
        (without(PATCHES), f"1 missing ('{PATCHES}')"),
        (without(TABLE), f"is_native=False, but the tensors lack the table of positions, '{TABLE}'"),
        (without(""), "holds no tensors"),
        (with_one("head.weight", torch.zeros(10, 128)), "1 unexpected ('head.weight')"),  # timm's
        (with_one("more.head.cls_token", torch.zeros(1, 1, 128)), "1 unexpected ('more.head.cls_token')"),
        (with_one("encoder.layers.0.ffn.gate_proj.bias", torch.zeros(512)), "1 unexpected"),
        (with_one("encoder.layers.0.attention.q_proj.bias", torch.zeros(128)), "1 unexpected"),
        (
            with_one("encoder.layers.1.rms_norm1.weight", torch.zeros(128)),
            "num_hidden_layers=1, but with these tensors it must be 2",
        ),
        (
            lambda state: state.update({name.replace(".0.", ".7."): state.pop(name) for name in [*state]}),
            "9 missing ('encoder.layers.0.",
        ),
        (
            lambda state: state.update({f"encoder.layers.{i}.rms_norm1.weight": torch.zeros(1) for i in range(2000)}),
            "encoder.depth: Input should be less than or equal to 1024 (got 2000)",
        ),
        (with_one("encoder.layers.0.rms_norm1.weight", torch.zeros(129)), "[129], expected [128]"),
        (with_one("encoder.layers.0.attention.k_proj.weight", torch.zeros(128, 64)), "1 of another shape"),
        (with_one(GATE, torch.zeros(640, 128)), "[640, 128], expected [512, 128]"),
        *(
            (with_one(TABLE, torch.zeros(shape)), f"('{TABLE}' {shape}, expected [N, 128] with N = 4, 9, 16, … patches")
            for shape in ([15, 128], [1, 128], [16], [5, 5], [3, 128, 1])
        ),
        (with_one(TABLE, torch.zeros(25, 128)), "image_size=56, but with these tensors it must be 70"),
        (with_one(PATCHES, torch.zeros(128, 1, 14, 14)), "[128, 1, 14, 14], expected [D, 3, P, P]"),
        (with_one(PATCHES, torch.zeros(128, 3, 14, 7)), "[128, 3, 14, 7], expected [D, 3, P, P]"),
        (with_one(PATCHES, torch.zeros(128, 588)), "[128, 588], expected [D, 3, P, P]"),
        (with_one(PATCHES, torch.zeros(256, 3, 14, 14)), "hidden_size=128, but with these tensors it must be 256"),
        (with_one("rms_norm.weight", torch.full((128,), torch.nan)), "not finite in 1 tensor ('rms_norm.weight')"),
        (with_one(GATE, torch.full((512, 128), torch.inf)), "not finite"),
        (with_one("rms_norm.weight", torch.tensor([1.0] * 127 + [-torch.inf])), "not finite"),
        (
            lambda state: [state[name].fill_(torch.nan) for name in ("rms_norm.weight", GATE)],
            f"not finite in 2 tensors ('{GATE}', 'rms_norm.weight')",
        ),
    ],
)
def test_tensors_of_another_encoder_are_refused(edit, message, foreign, refusal):
    change(foreign, edit)
    assert message in refusal(read_published, foreign)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without("vision_model.embeddings.patch_embed.weight"), f"1 missing ('vision_model.{PATCHES}')"),
        (without("vision_model.embeddings.pos"), f"lack the table of positions, 'vision_model.{TABLE}'"),
        (without("text_model.encoder.layers.0."), "num_hidden_layers=2, but with these tensors it must be 1"),
        (without("token_embedding"), "1 missing ('text_model.embeddings.token_embedding.weight')"),
        (without("text_projection"), "1 missing ('text_projection.weight')"),
        (without("text_model.encoder"), "num_hidden_layers=2, but with these tensors it must be 1"),
        (without("logit_scale"), "1 missing ('logit_scale')"),
        (with_one("text_projection.weight", torch.zeros(24)), "[24], expected 2 sizes"),
        (with_one("logit_scale", torch.zeros(1)), "[1], expected []"),
        (with_one("logit_bias", torch.zeros(())), "1 unexpected ('logit_bias')"),
    ],
)
def test_tensors_of_another_pair_are_refused(edit, message, pair, refusal):
    change(pair, edit)
    assert message in refusal(read_published, pair)


def test_long_list_is_shortened_with_its_count(foreign, refusal):
    change(foreign, lambda state: state.update({f"more.{i}." + "x" * 300: torch.zeros(1) for i in range(200)}))
    assert "200 unexpected (" in refusal(read_published, foreign)
