"""Sums over parts, against sums by hand. A multiply and an add are 2 FLOPs."""

from dataclasses import replace

import pytest
import torch
from fvcore.nn import FlopCountAnalysis, parameter_count
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aimv2.config.native import Steps
from aimv2.config.prefix import PrefixDistribution
from aimv2.config.program import replaced
from aimv2.config.recipes.scales import SCALES, demo
from aimv2.cost import Part, forward_flops, num_parameters, train_flops, train_flops_by_area, visible_share
from aimv2.data.batches.batch import Batch
from aimv2.definitions.objectives import BUILT_IN, objective
from aimv2.model.masks import prefix_mask
from aimv2.objectives.build import build, build_empty, parameters_by_part
from aimv2.request.resolve import with_attention
from tests.helpers.marks import everyday, exhaustive
from tests.helpers.training import losses_of

ENCODER = Part(name="encoder", module="encoder", parameters=7, products=100, attention=20, of_input=10)
HEAD = Part(name="head", module="head", parameters=5, products=30, per_token=2)


def test_costs_of_parts_add_up():
    """A backward pass costs twice the forward pass, without gradients of the input; a frozen part has none."""
    assert num_parameters([ENCODER, HEAD]) == 12
    assert forward_flops([ENCODER, HEAD], num_images=3, num_tokens=11) == 3 * (100 + 20 + 30) + 11 * 2
    assert train_flops([ENCODER, HEAD], num_images=3, num_tokens=11) == 3 * (450 + 22) - 3 * 10
    frozen = Part(name="encoder", module="encoder", parameters=7, products=100, of_input=10, is_frozen=True)
    assert train_flops([frozen, HEAD], num_images=3, num_tokens=11) == 3 * 100 + 3 * (3 * 30 + 11 * 2)


def test_tokens_are_counted_once_over_all_areas():
    by_area = {4: [ENCODER, HEAD], 9: [HEAD]}
    expected = train_flops(by_area[4], 3, 0) + train_flops(by_area[9], 2, 11)
    assert train_flops_by_area(by_area, {4: 3, 9: 2}, num_tokens=11) == expected


@pytest.mark.parametrize(
    "law", [PrefixDistribution(), PrefixDistribution(law="beta", alpha=3, beta=1, full_attention=0.2)], ids=str
)
def test_useful_attention_is_the_share_that_the_mask_lets_through(law):
    config = with_attention(replace(demo(), prefix=law))
    shares = prefix_mask(torch.arange(1, 17), 16).double().mean(dim=(1, 2, 3)).numpy()
    assert visible_share(config) == pytest.approx(float(law.pmf(16) @ shares))
    for attention, share in (("causal", 17 / 32), ("bidirectional", 1)):
        assert visible_share(replaced(config, {"model.encoder.attention": attention})) == pytest.approx(share)


@pytest.mark.parametrize(
    ("scale", "encoder_millions"),
    [("vit_b", 85.6), ("vit_l", 309.2), ("vit_h", 680.9), ("vit_1b", 1235.0), ("vit_3b", 2720.7)],
)
def test_encoders_have_the_papers_size(scale, encoder_millions):
    """Paper Table 1 and ml-aim; the decoder at L has about 221 M."""
    parameters = parameters_by_part(SCALES[scale]())
    assert round(parameters["encoder"] / 1e6, 1) == encoder_millions
    if scale == "vit_l":
        assert round(parameters["decoder"] / 1e6) == 221


@pytest.mark.parametrize(
    ("changes", "millions"),
    [
        ({"width": 512, "num_heads": 4}, 74.5),
        ({"width": 1536, "num_heads": 12}, 440.7),
        ({"depth": 8}, 170),
        ({"depth": 16}, 272.8),
    ],
    ids=str,
)
def test_decoders_have_the_papers_size(changes, millions):
    """Tables 9e and 9f at ViT-L; sizes derived in the paper's facts from the released code."""
    config = replaced(SCALES["vit_l"](), {f"model.decoder.{name}": value for name, value in changes.items()})
    assert parameters_by_part(config)["decoder"] / 1e6 == pytest.approx(millions, abs=0.05 if millions != 170 else 0.5)


NUM_IMAGES = 2


def shallow(config, name, **changes):
    """Return the run with an objective and one block per stack, the text tower included."""
    model = config.model
    model = replace(
        model,
        encoder=replace(model.encoder, depth=1),
        decoder=replace(model.decoder, depth=1),
        **{"text_tower": replace(model.text_tower, depth=1)} | changes,
    )
    budget = replace(config.budget, samples=0, batch_size=NUM_IMAGES)
    return with_attention(replace(config, model=model, budget=budget, objective=replace(config.objective, name=name)))


def random_batch(config):
    model, B, generator = config.model, config.budget.batch_size, torch.Generator().manual_seed(0)
    token_BT = torch.randint(2, model.vocab_size, (B, model.max_text_tokens), generator=generator)
    token_BT[0, 5:] = 1
    prefix_len_B = torch.randint(1, model.num_patches, (B,), generator=generator)
    image = torch.randn(B, 3, model.image_px, model.image_px, generator=generator)
    supervised_N = (token_BT != 1).flatten().nonzero().squeeze(1)
    text_len_B = torch.tensor([6, *[model.max_text_tokens] * (B - 1)])
    return Batch.of(image, token_BT, prefix_len_B, supervised_N, text_len_B, config)


def skipped_flops(config, batch):
    """Return what the closed form counts and training skips: the pixel head at patches in the prefixes, forward."""
    heads = [part for part in objective(config.objective.name).cost(config) if part.name == "pixel head"]
    patches = config.model.num_patches
    return sum((NUM_IMAGES * patches - batch.num_scored) * round(part.products / patches) for part in heads)


def counted_by_torch(config):
    """Count forward, and forward with backward, on the meta device, which computes nothing."""
    batch, model = random_batch(config), build_empty(config)
    # torch 2.13 does not count the default CPU attention; it counts the math backend in full.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as forward:
        loss = losses_of(model, batch.to(torch.device("meta")), config).total
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as backward:
        loss.backward()
    skipped, flops = skipped_flops(config, batch), forward.get_total_flops()
    return flops + skipped, flops + backward.get_total_flops() + 3 * skipped, len(batch.supervised_N)


def closed_form(config, num_tokens):
    parts = objective(config.objective.name).cost(config)
    return forward_flops(parts, NUM_IMAGES, num_tokens), train_flops(parts, NUM_IMAGES, num_tokens)


def assert_flops_match_torchs(config):
    forward, both, num_tokens = counted_by_torch(config)
    assert closed_form(config, num_tokens) == (forward, both)


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("scale", everyday(["tiny"], SCALES))
def test_flops_match_torchs_counter(scale, name):
    assert_flops_match_torchs(shallow(SCALES[scale](), name))


@pytest.mark.parametrize(
    "changes",
    [{"sharing": "separate"}, {"order": "text_first"}, {"image_positions": True}, {"ffn": "gelu", "norm": "layer"}],
    ids=str,
)
def test_flops_of_other_decoders_match_torchs_counter(changes):
    config = shallow(demo(), "aimv2")
    config = replace(config, model=replace(config.model, decoder=replace(config.model.decoder, **changes)))
    assert_flops_match_torchs(config)


class Step(nn.Module):
    """A forward pass as a module of tensors, which fvcore needs."""

    def __init__(self, model, batch, config):
        super().__init__()
        self.model, self.batch, self.config = model, batch, config

    def forward(self, image):
        return losses_of(self.model, self.batch._replace(image=image), self.config).total


def attention_macs(inputs, outputs):
    """Count scores and mixing of fused attention, which fvcore does not know; a multiply and an add are one."""
    (B, H, L, d), S = inputs[0].type().sizes(), inputs[1].type().sizes()[2]
    return 2 * B * H * L * S * d


def count_by_fvcore(config):
    batch, model = random_batch(config), build_empty(config).to_empty(device="cpu")
    counter = FlopCountAnalysis(Step(model, batch, config), batch.image)
    counter.set_op_handle("aten::scaled_dot_product_attention", attention_macs)
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return 2 * counter.total() + skipped_flops(config, batch), len(batch.supervised_N)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("scale", "name"),
    [
        *(("demo", name) for name in BUILT_IN),
        *(exhaustive(scale, "aimv2") for scale in SCALES if scale != "demo"),
        *(exhaustive("vit_l", name) for name in BUILT_IN if name != "aimv2"),
    ],
)
def test_flops_match_fvcores_counter(scale, name):
    config = shallow(SCALES[scale](), name)
    counted, num_tokens = count_by_fvcore(config)
    assert closed_form(config, num_tokens)[0] == pytest.approx(counted, rel=0.005)


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("frozen", [(), ("encoder",)], ids=str)
@pytest.mark.parametrize("changes", [{}, {"norm": "layer", "ffn": "gelu"}], ids=str)
def test_activation_memory_matches_autograds_saved_tensors(name, frozen, changes):
    """Oracle: the bytes of all saved tensors except weights, each storage once."""
    num_images = 64  # small tensors have torch's own operations, which save more
    model, budget = demo().model, replace(demo().budget, samples=0, batch_size=num_images)
    model = replace(model, encoder=replace(model.encoder, **changes))
    config = replace(demo(), budget=budget, model=model, objective=replace(demo().objective, name=name))
    config = replaced(with_attention(config), {"start.frozen": frozen})
    model, batch, kept = build(config), random_batch(config), {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage  # kept alive, so that its address is not reused
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = losses_of(model, batch, config).total
    assert torch.isfinite(loss)
    parts = objective(name).cost(config)
    expected = sum(num_images * part.saved + len(batch.supervised_N) * part.saved_per_token for part in parts)
    assert 4 * expected == pytest.approx(sum(storage.nbytes() for storage in kept.values()), rel=0.03)


def counted_parameters(config):
    """Count the weights of each part's module on the meta device, without those of other parts within it."""
    counted = parameter_count(build_empty(config))
    modules = [part.module for part in objective(config.objective.name).cost(config)]
    own = {
        module: counted[module] - sum(counted[inner] for inner in modules if inner.startswith(f"{module}."))
        for module in modules
    }
    assert sum(own.values()) == counted[""], "every weight belongs to one part"
    return own


def priced_parameters(config):
    return {part.module: part.parameters for part in objective(config.objective.name).cost(config)}


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("scale", everyday(["tiny"], SCALES))
def test_parameters_of_every_part_match_torchs(scale, name):
    config = with_attention(replace(SCALES[scale](), objective=replace(SCALES[scale]().objective, name=name)))
    assert priced_parameters(config) == counted_parameters(config)


@pytest.mark.parametrize("name", ["aimv2", "cappa", "siglip"])
@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [
        ({"norm": "layer", "ffn": "gelu", "positions": "sincos"}, {}),
        ({}, {"norm": "layer", "ffn": "gelu", "image_positions": True}),
        ({}, {"sharing": "separate", "image_positions": True}),
        ({}, {"order": "text_first", "width": 48, "num_heads": 2, "depth": 3}),
    ],
    ids=str,
)
def test_parameters_of_other_networks_match_torchs(name, encoder, decoder):
    config = shallow(demo(), name, text_tower=replace(demo().model.text_tower, embed_dim=24))
    model = config.model
    if name == "cappa":
        decoder = {key: value for key, value in decoder.items() if key not in ("sharing", "order")}
    model = replace(model, encoder=replace(model.encoder, **encoder), decoder=replace(model.decoder, **decoder))
    assert priced_parameters(replace(config, model=model)) == counted_parameters(replace(config, model=model))


@pytest.mark.parametrize("changes", [{}, {"sharing": "separate"}, {"order": "text_first"}], ids=str)
@pytest.mark.parametrize("name", ["aimv2", "clip"])
def test_a_frozen_encoder_has_a_forward_pass_only(name, changes):
    """Oracle: torch's counter, which sees no gradients of the encoder, nor of the features that others read."""
    config = replaced(shallow(demo(), name), {"start.frozen": ["encoder"]})
    config = replace(config, model=replace(config.model, decoder=replace(config.model.decoder, **changes)))
    assert_flops_match_torchs(config)


def native_batch(config, area):
    """Return a batch of two images of an area: one that fills it, and one of two rows."""
    model, generator = config.model, torch.Generator().manual_seed(0)
    grids = torch.tensor([[1, area], [2, area // 2 - 1]])
    image = torch.randn(2, 3, model.patch_px, area * model.patch_px, generator=generator)
    prefix_len_B, places = torch.tensor([1, 2]), torch.arange(area)
    is_scored = (places >= prefix_len_B[:, None]) & (places < grids.prod(dim=1)[:, None])
    scored_K, squares = is_scored.flatten().nonzero().squeeze(1), random_batch(config)
    tally = replace(squares.tally, num_scored=len(scored_K))
    return squares._replace(image=image, grid_B2=grids, prefix_len_B=prefix_len_B, scored_K=scored_K, tally=tally)


@pytest.mark.parametrize(
    ("name", "sharing"), [("aimv2", "joint"), ("aimv2", "separate"), ("caption", "joint"), ("image_only", "joint")]
)
@pytest.mark.parametrize("area", [8, 32])
def test_flops_of_a_native_batch_match_torchs_counter(name, sharing, area):
    config = replaced(
        shallow(demo(), name),
        {"model.decoder.sharing": sharing, "model.encoder.positions": "sincos", "native.areas": (8, 32)},
    )
    batch, model = native_batch(config, area), build_empty(config)
    parts = objective(name).cost(config, area=area)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        losses_of(model, batch.to(torch.device("meta")), config).total.backward()
    head = sum(part.products for part in parts if part.name == "pixel head") / area
    skipped = 3 * (2 * area - batch.num_scored) * round(head)
    assert train_flops(parts, 2, len(batch.supervised_N)) == counter.get_total_flops() + skipped


def test_native_cost_is_the_mean_over_areas_of_as_many_patches():
    config = with_attention(replaced(demo(), {"native.areas": (8, 16, 64), "model.encoder.positions": "sincos"}))
    goal, num_samples = objective("aimv2"), 16 * 3000
    config = replaced(config, {"budget.samples": num_samples})
    images = Steps(config).images_by_area(3000)
    by_area = {area: goal.cost(config, area=area) for area in images}
    exact = sum(train_flops(by_area[area], count, 7 * count) for area, count in images.items())
    assert train_flops(goal.cost(config), num_samples, 7 * num_samples) == pytest.approx(exact, rel=0.02)
    assert train_flops_by_area(by_area, images, 7 * sum(images.values())) == pytest.approx(exact, rel=1e-9)
    one = replaced(config, {"native.areas": (16,)})
    assert goal.cost(one) == goal.cost(one, area=16) == goal.cost(replaced(config, {"native.areas": ()}))
