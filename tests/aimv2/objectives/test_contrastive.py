"""The contrastive objectives: on one process against another implementation, on two against one."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from aimv2.config import from_dict, to_dict
from aimv2.data.batches import Batch
from aimv2.model.network import build
from aimv2.objectives import objective


def contrastive(config, name, **values):
    encoder = replace(config.model.encoder, attention="bidirectional")
    return replace(
        config,
        model=replace(config.model, encoder=encoder),
        objective=replace(config.objective, name=name, **values),
    )


def open_clips(name, similarity, image_BS, text_BS):
    """The loss by open_clip, which is loaded here so that the two processes below need not wait for it."""
    from open_clip.loss import ClipLoss, SigLipLoss

    if name == "clip":
        return ClipLoss()(image_BS, text_BS, similarity.scale)
    return SigLipLoss()(image_BS, text_BS, similarity.scale, similarity.logit_bias)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_the_loss_is_open_clips_of_the_embedded_pairs(tiny, batch, name):
    config = contrastive(tiny, name)
    model = build(config)
    total, terms = objective(name).losses(model, batch, config)
    assert list(terms) == ["contrastive_loss"]
    assert torch.equal(total, terms["contrastive_loss"])
    image = model.embed_images(batch.image)
    text = model.embed_texts(batch.token_BT, batch.text_len_B)
    torch.testing.assert_close(total, open_clips(name, model.similarity, image, text))


@pytest.mark.parametrize(
    ("name", "temperature", "scale", "bias"),
    [("clip", None, 1 / 0.07, None), ("siglip", None, 10, -10), ("clip", 0.5, 2, None), ("siglip", 0.02, 50, -10)],
)
def test_temperature_and_bias_start_where_the_papers_have_them(tiny, name, temperature, scale, bias):
    similarity = build(contrastive(tiny, name, temperature=temperature)).similarity.requires_grad_(False)
    assert float(similarity.scale) == pytest.approx(scale)
    assert float(similarity.logit_scale) == pytest.approx(math.log(scale))
    assert (None if similarity.logit_bias is None else float(similarity.logit_bias)) == bias


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_every_parameter_learns(tiny, batch, name):
    config = contrastive(tiny, name)
    model = build(config)
    objective(name).losses(model, batch, config).total.backward()
    assert not [key for key, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum()]


@pytest.mark.parametrize("attention", ["bidirectional", "prefix", "causal"])
def test_the_encoder_is_masked_as_the_config_has_it(tiny, batch, attention):
    config = contrastive(tiny, "clip")
    config = replace(config, model=replace(config.model, encoder=replace(config.model.encoder, attention=attention)))
    model = build(config)
    prefix = {"bidirectional": None, "prefix": batch.prefix_len_B, "causal": torch.ones(6, dtype=torch.int64)}
    image = model.embed_images(batch.image, prefix[attention])
    text = model.embed_texts(batch.token_BT, batch.text_len_B)
    expected = open_clips("clip", model.similarity, image, text)
    torch.testing.assert_close(objective("clip").losses(model, batch, config).total, expected)


@pytest.mark.slow
def test_two_processes_average_to_the_gradients_of_one(tiny, batch, tmp_path):
    tensors = {field: value for field, value in batch._asdict().items() if isinstance(value, torch.Tensor)}
    save_file(tensors, tmp_path / "batch")
    names = ("clip", "siglip")
    for name in names:
        (tmp_path / f"{name}.json").write_text(json.dumps(to_dict(contrastive(tiny, name))))
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, str(tmp_path), str(rank), *names],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for worker in workers:
        _, complaints = worker.communicate(timeout=120)
        assert worker.returncode == 0, complaints

    for name in names:
        config = contrastive(tiny, name)
        model = build(config)
        total = objective(name).losses(model, batch, config).total
        total.backward()
        averaged = load_file(tmp_path / f"{name}.averaged")
        torch.testing.assert_close(averaged.pop("loss"), total.detach())
        gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
        assert averaged.keys() == gradients.keys()
        for key, gradient in gradients.items():
            assert (averaged[key] - gradient).norm() <= 1e-4 * gradient.norm(), (name, key)


def work(folder, rank, names):
    """One of two processes: the loss of its half of the batch, and gradients averaged as DDP averages them."""
    # A file to meet at needs no free port.
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    whole = load_file(folder / "batch")
    half = slice(3 * rank, 3 * rank + 3)
    rows = {field: value if field == "supervised_N" else value[half] for field, value in whole.items()}
    for name in names:
        config = from_dict(json.loads((folder / f"{name}.json").read_text()))
        model = build(config)
        loss = objective(name).losses(model, Batch(**rows, num_scored=0), config).total
        loss.backward()
        averaged = {"loss": loss.detach(), **{key: parameter.grad for key, parameter in model.named_parameters()}}
        for value in averaged.values():
            torch.distributed.all_reduce(value)
            value /= 2
        if rank == 0:
            save_file(averaged, folder / f"{name}.averaged")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
