from dataclasses import replace

import pytest

from aimv2.base.errors import UsageError
from aimv2.config.program import replaced
from aimv2.config.recipes.scales import demo
from aimv2.request.resolve import data_fingerprint, resolve
from tests.helpers.own_data import pictured_source


@pytest.mark.parametrize(("available", "precision"), [("cpu", "float32"), ("cuda", "bfloat16")])
def test_resolve_replaces_auto_by_the_devices_values(available, precision):
    config = resolve(demo(), available=available)
    assert (config.device, config.precision) == (available, precision)
    assert resolve(config, available=available) == config
    given = resolve(replace(demo(), device="cpu", precision="bfloat16"), available=available)
    assert (given.device, given.precision) == ("cpu", "bfloat16")


def test_data_fingerprint_depends_on_the_sources(tiny):
    fewer = replace(tiny, data=replace(tiny.data, sources=("openmoji",)))
    assert data_fingerprint(tiny) == data_fingerprint(replace(tiny, seed=1)) != data_fingerprint(fewer)


def test_a_labelled_set_with_the_name_of_a_task_is_refused_before_training():
    config = replace(demo(), evaluation=replace(demo().evaluation, sets=("sets/digits.yaml",)))
    with pytest.raises(UsageError, match="a task is called 'digits' already; give the file another name"):
        resolve(config)


def test_compile_without_a_compiler_is_refused_before_training(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    config = replace(demo(), compile=True, device="cpu")
    with pytest.raises(UsageError, match=r"compile=true needs a C[+][+] compiler \(no-such-compiler\), which this"):
        resolve(config)
    assert resolve(config, available="cpu").compile is True, "the host of a launch need not have what nodes have"


def test_cuda_and_tf32_are_refused_on_the_cpu(tiny):
    with pytest.raises(UsageError, match="device=cuda, but torch finds no CUDA device"):
        resolve(replace(tiny, device="cuda"), available="cpu")
    config = replace(demo(), precision="tf32")
    with pytest.raises(UsageError, match="precision=tf32 is computed by the tensor cores of GPUs; on the CPU use"):
        resolve(config, available="cpu")
    assert resolve(config, available="cuda").precision == "tf32"


@pytest.mark.parametrize(
    ("augment", "sentence"),
    [
        ({}, ""),
        ({"min_scale": 0.9, "min_ratio": 0.5}, ""),
        ({"min_scale": 0.08}, r"augment.min_scale=0.08 has no effect, since transforms in .*yaml set it to 0.9; leave"),
        ({"max_scale": 0.5}, r"transforms in .*yaml do not fit: augment: min_scale must not exceed max_scale"),
    ],
)
def test_augmentation_that_a_source_replaces_is_refused(tiny, tmp_path, augment, sentence):
    path = pictured_source(tmp_path / "pictures", transforms={"min_scale": 0.9, "flip_probability": 0})
    config = replaced(tiny, {"data.sources": (str(path),), "augment": augment})
    if sentence:
        with pytest.raises(UsageError, match=sentence):
            resolve(config)
        return
    assert resolve(resolve(config)) == resolve(config)
