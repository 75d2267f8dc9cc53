"""The encoder's benchmark, on three small encoders."""

import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from aimv2.base.errors import RunFailedError, UsageError
from benchmarks.command import bench_command
from benchmarks.encoder import PRODUCT, Options, encoder_config, implementations, require_same, table, warnings
from benchmarks.timing import read_options
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aimv2.model.encoder import Encoder


@pytest.fixture
def config():
    return encoder_config(Options(scale="demo", depth=2))


@pytest.fixture
def encoder(config):
    """An encoder with norms away from 1 and biases away from 0, so that a missing or misplaced one matters."""
    encoder = Encoder(config.model).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in encoder.parameters():
        parameter.data.normal_(mean=float(parameter.ndim == 1), std=0.1, generator=generator)
    return encoder


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 3e-2)])
def test_three_encoders_agree(config, encoder, dtype, tolerance):
    encoder.to(dtype)
    image = torch.randn(2, 3, 32, 32, dtype=dtype)
    encoders = implementations(encoder, config.model)
    features = {name: encode(image) for name, encode in encoders.items()}
    assert list(features) == ["ours", "timm", "transformers"]
    for first, second in pairwise(features.values()):
        assert first.dtype == second.dtype == dtype
        assert (first - second).norm() <= tolerance * second.norm()
    require_same(encoders, image, tolerance)


@torch.no_grad()
def test_encoders_that_differ_are_not_compared(config, encoder):
    image = torch.randn(2, 3, 32, 32)
    encoders = implementations(encoder, config.model)
    theirs = encoders["timm"]
    encoders["timm"] = lambda image: 1.001 * theirs(image)
    with pytest.raises(RunFailedError, match=r"features of timm differ from ours by 0.001 of their norm"):
        require_same(encoders, image, 1e-4)
    encoders["timm"] = lambda image: theirs(image) * torch.nan
    with pytest.raises(RunFailedError, match="features of timm differ"):
        require_same(encoders, image, 1e-4)


@torch.no_grad()
def test_table_shows_times_ratios_and_rates(config, encoder):
    seconds = {
        "ours": np.array([0.010, 0.012, 0.011, 0.010, 0.010, 0.010]),
        "timm": np.array([0.020, 0.012, 0.022, 0.020, 0.020, 0.020]),
        PRODUCT: np.array([0.001] * 6),
    }
    columns = {str(column.header): list(column.cells) for column in table(seconds, config, 4, "").columns}
    image = torch.randn(4, 3, 32, 32)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder(image)
    product = 2 * 64 * 96 * 512 / 0.001  # 4 images of 16 patches by the gate and up weights of 256 each
    rates = [counter.get_total_flops() / 0.010, counter.get_total_flops() / 0.020, product]
    assert columns["encoder"] == ["ours", "timm", "torch.mm"]
    assert columns["ms / image"] == ["2.50", "5.00", ""]
    assert columns["theirs / ours"] == ["", "2.000", ""]
    assert columns["95 %"] == ["", "1.000 – 2.000", ""]
    assert columns["GFLOP/s"] == [f"{rate / 1e9:,.0f}" for rate in rates]
    assert columns["of mm"] == [f"{rate / product:.0%}" for rate in rates]


def test_uncertain_comparison_gets_a_warning():
    ours = np.linspace(1, 1.1, 20)
    noisy = ours * np.linspace(0.8, 1.2, 20)
    assert warnings({"ours": ours, "timm": 1.2 * ours, PRODUCT: noisy}) == []
    (warning,) = warnings({"ours": ours, "timm": ours, "transformers": noisy})
    assert warning.startswith("warning: transformers / ours is uncertain")
    assert "after 20 repeats" in warning
    assert "repeats=40" in warning
    (warning,) = warnings({"ours": ours[:5], "timm": ours[:5]})
    assert "timm" in warning, "five repeats have no interval"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "unknown benchmark ''. Allowed: data, encoder, step."),
        (["decoder"], "unknown benchmark 'decoder'. Did you mean 'encoder'? Allowed: data, encoder, step."),
        (["encoder", "scale=dem"], "unknown scale 'dem'. Did you mean 'demo'?"),
        (["encoder", "depth"], "cannot read 'depth': arguments have the form key=value"),
        (["encoder", "dept=2"], "unknown key 'dept'. Did you mean 'depth'?"),
        (["encoder", "depth=1", "depth=2"], "depth= is given twice; once is allowed"),
        (["encoder", "depth=0"], "depth: Input should be greater than 0 (got '0')"),
        (["encoder", "batch_size=-1"], "batch_size: Input should be greater than 0"),
        (["encoder", "repeats=1"], "repeats: Input should be greater than or equal to 2"),
        (["encoder", "threads=all"], "threads: Input should be a valid integer"),
        (["encoder", "device=tpu"], "device: Input should be 'auto', 'cpu' or 'cuda' (got 'tpu')"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(arguments, message):
    with pytest.raises(UsageError) as caught:
        bench_command(arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_cuda_device_is_refused():
    with pytest.raises(UsageError, match="finds no CUDA device"):
        bench_command(["encoder", "scale=demo", "device=cuda"])


@pytest.mark.parametrize("missing", ["timm", "transformers"])
def test_missing_package_is_named_with_the_command_to_install_it(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match=rf"{missing}.* pip install 'aimv2-ablations\[dev\]'"):
        bench_command(["encoder", "scale=demo"])


def test_options_are_read_as_their_types():
    given = ["scale=demo", "batch_size=3", "repeats=4", "threads=1", "device=cpu", "depth=1"]
    assert read_options(Options, given) == Options(
        scale="demo", batch_size=3, repeats=4, threads=1, device="cpu", depth=1
    )
    assert read_options(Options, []) == Options()


def test_depth_overrides_the_recipe():
    recipes = encoder_config(Options(scale="demo"))
    given = encoder_config(Options(scale="demo", depth=1))
    assert (recipes.model.encoder.depth, given.model.encoder.depth) == (4, 1)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_command_prints_both_precisions_and_the_machine(capsys, two_threads):
    """With one thread: where other processes take a core, two of them wait for each other."""
    assert bench_command(["encoder", "scale=demo", "depth=1", "repeats=2", "device=cpu", "threads=1"]) == 0
    printed = capsys.readouterr().out
    words = " ".join(printed.split())
    assert [words.count(f"encoder of demo, {precision}") for precision in ("float32", "bfloat16")] == [1, 1]
    for name in ("ours", "timm", "transformers", "torch.mm"):
        assert printed.count(f"│ {name} ") == 2
    assert f"1 threads, torch {torch.__version__}, timm " in words
    assert "depth 1, width 96, 6 heads, called on 1 x 3 x 32 x 32 in patches of 8 px" in words
    assert "[16 x 96] x [96 x 512]" in words
    assert words.count("theirs / ours: the median over repeats") == 1
    assert words.count("warning: ") == 4, "two repeats have no interval"
    assert torch.get_num_threads() == 2, "the number of threads is restored"
