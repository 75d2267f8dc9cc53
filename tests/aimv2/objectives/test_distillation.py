"""Distillation from a wider and deeper encoder, which a finished run has."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aimv2.base.errors import UsageError
from aimv2.config.model_config import EncoderConfig
from aimv2.config.program import replaced
from aimv2.cost import forward_flops, num_parameters, train_flops
from aimv2.data.batches.batch import Batch
from aimv2.definitions.objectives import objective
from aimv2.memory.setup import setup_of
from aimv2.model.positions import resample
from aimv2.objectives.build import build, build_empty, implementation_of
from aimv2.request.resolve import with_attention
from aimv2.start.network import load_teacher
from aimv2.start.origin import with_start
from aimv2.tools.weights import load_encoder
from aimv2.training.engine import Engine
from tests.helpers.finished_runs import finished_run
from tests.helpers.training import losses_of
from tests.helpers.training import run as trained


@pytest.fixture(scope="module")
def teacher(tiny, tmp_path_factory):
    large = replaced(tiny, {"model.encoder.width": 48, "model.encoder.depth": 3, "model.encoder.num_heads": 3})
    return finished_run(tmp_path_factory.mktemp("runs"), large, build(large))


@pytest.fixture(scope="module")
def config(tiny, teacher):
    values = {"objective": {"name": "distill"}, "model.encoder.attention": "auto", "start.teacher": str(teacher.path)}
    config = with_start(with_attention(replaced(tiny, values)))
    objective("distill").check(config)
    return config


def test_the_sizes_and_the_name_of_the_teacher_are_in_the_config(tiny, config, teacher):
    assert config.start.teacher_encoder == EncoderConfig(width=48, depth=3, num_heads=3, attention="bidirectional")
    assert config.start.teacher_fingerprint == teacher.name
    assert config.model.encoder == replace(tiny.model.encoder, attention="bidirectional")
    other = replace(config, start=replace(config.start, teacher_fingerprint="another"))
    assert other.name != config.name
    assert other.untrained().name == config.untrained().name


def test_loss_is_one_minus_the_cosine_of_each_patch(config, teacher, batch):
    model = build(config)
    wanted, found = load_encoder(teacher.path)(batch.image), model.head(model.encoder(batch.image))
    cosines = [
        (one @ other / (one.norm() * other.norm())).item()
        for image, target in zip(found, wanted, strict=True)
        for one, other in zip(image, target, strict=True)
    ]
    total, terms = losses_of(model, batch, config)
    assert terms == {"distillation_loss": total}
    assert total.item() == pytest.approx(1 - sum(cosines) / len(cosines), abs=1e-6)


def test_only_the_student_is_trained(config, teacher, pairs):
    model, rows, _ = trained(config, pairs)
    assert all(parameter.grad is None for parameter in load_teacher(config).parameters())
    before = build(config).state_dict()
    assert all(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.state_dict().keys() == before.keys()
    assert all(0 < row["distillation_loss"] < 2 for row in rows[1:])


@pytest.mark.parametrize("size", [1, 4])
def test_micro_batches_have_the_gradients_of_the_batch(config, batch, size):
    model = build(config)
    losses_of(model, batch, config).total.backward()
    small = replace(config, micro_batch=size)
    engine = Engine(implementation_of(objective("distill"))(build(small), small), small, setup_of(small))
    engine.backward(engine.micro_batches(batch))
    for name, parameter in engine.objective.model.named_parameters():
        torch.testing.assert_close(parameter.grad, dict(model.named_parameters())[name].grad, rtol=1e-4, atol=1e-6)


def test_the_teacher_has_positions_for_the_students_images(config, teacher):
    large = replaced(config, {"model.image_px": 24})
    expected = resample(load_encoder(teacher.path).pos_embed, 6, 6)
    torch.testing.assert_close(load_teacher(large).pos_embed, expected)


def test_flops_match_torchs_counter_with_a_forward_pass_of_the_teacher(config, batch):
    model = build_empty(config)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as forward:
        loss = losses_of(model, batch.to(torch.device("meta")), config).total
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as backward:
        loss.backward()
    parts, seen = objective("distill").cost(config), forward.get_total_flops()
    assert (forward_flops(parts, 6, 0), train_flops(parts, 6, 0)) == (seen, seen + backward.get_total_flops())


def test_parameters_and_memory_are_priced(config, batch):
    rows = torch.arange(132) % 6  # small tensors have torch's own operations, which save more
    images, tokens, prefixes = (value[rows] for value in (batch.image, batch.token_BT, batch.prefix_len_B))
    batch = Batch.of(images, tokens, prefixes, batch.supervised_N, batch.text_len_B[rows], config)
    parts = {part.name: part for part in objective("distill").cost(config)}
    model = build(config)
    own = [part for part in parts.values() if part.is_in_network]
    assert num_parameters(own) == sum(weight.numel() for weight in model.parameters())
    assert parts["teacher"].parameters == sum(weight.numel() for weight in load_teacher(config).parameters())
    kept, weights = {}, {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = losses_of(model, batch, config).total
    assert torch.isfinite(loss)
    expected = 4 * len(rows) * sum(part.saved for part in parts.values())
    assert expected == pytest.approx(sum(storage.nbytes() for storage in kept.values()), rel=0.03)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"start.teacher": None}, "objective.name=distill imitates an encoder; type start.teacher=PATH"),
        ({"objective": {"name": "aimv2"}}, "objective.name=aimv2 has no teacher; start.teacher belongs to"),
        ({"data.captions": "shuffled"}, "which reads no captions: only 'own' is possible"),
    ],
    ids=str,
)
def test_a_run_that_cannot_be_distilled_is_refused(config, values, message):
    wrong = replaced(config, values)
    with pytest.raises(UsageError, match=message):
        objective(wrong.objective.name).check(wrong)


def test_a_teacher_with_other_patches_is_refused(config):
    with pytest.raises(UsageError, match=r"model.patch_px=8, but the weights of start.teacher have 4"):
        with_start(replaced(config, {"model.patch_px": 8}))
    with pytest.raises(UsageError, match=r"start.teacher='nowhere' is neither the folder of a run"):
        with_start(replaced(config, {"start.teacher": "nowhere"}))
