"""Fixtures for all tests: a run of two steps, on real pairs that are rendered once per test session."""

import contextlib
import gc
import os
import shutil
import signal
import stat
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, settings

from aimv2.base.plugins import ready, using
from aimv2.config.arguments import FORM
from aimv2.config.data_config import DataConfig, SceneConfig
from aimv2.config.evaluation_config import EvaluationConfig, ProbeConfig, ReaderConfig
from aimv2.config.model_config import DecoderConfig, EncoderConfig, ModelConfig
from aimv2.config.run_config import RunConfig
from aimv2.config.training_config import BudgetConfig, LogConfig
from aimv2.data.batches.batch import Batch
from aimv2.data.prepare import prepare
from tests.helpers.finished_sweeps import finished

END_ID = 1  # end-of-text and padding

# No test depends on the machine's speed. In CI, examples are the same every time.
settings.register_profile("everyday", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("everyday"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "everyday")


def pytest_collection_finish():
    """Keep imported modules out of garbage collection, which is slow with so many of them."""
    gc.collect()
    gc.freeze()


ready()  # once: installed plug-ins are sought by each test otherwise
torch.set_num_threads(1)  # per-step losses are pinned, and the number of threads changes the order of sums
signal.signal(signal.SIGINT, signal.default_int_handler)  # `make test &` starts with SIGINT ignored
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup with SIGHUP


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    """Return a data cache for the whole session, shared by the processes of pytest-xdist."""
    folder = tmp_path_factory.getbasetemp().parent / "aimv2-cache"
    folder.mkdir(exist_ok=True)
    return str(folder)


@pytest.fixture(autouse=True)
def no_plugins_are_left():
    """Unload the plug-ins that a test has loaded, so that no other test sees them."""
    with using([]):
        yield


@pytest.fixture(autouse=True)
def no_form_is_left():
    """Forget how a test has typed a command, so that no other test's messages have that form."""
    yield
    os.environ.pop(FORM, None)


@pytest.fixture(autouse=True, scope="module")
def no_plugins_of_a_module_are_left():
    """The same for those that a fixture of a module has loaded."""
    with using([]):
        yield


@pytest.fixture
def plugged(tmp_path):
    """Return a function that writes a plug-in, loads it for the length of the test, and returns its path."""
    with contextlib.ExitStack() as loaded:

        def load(text, name="mine.py"):
            path = tmp_path / "plugins" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            loaded.enter_context(using([path]))
            return path

        yield load


@pytest.fixture(scope="session")
def tiny(cache_dir) -> RunConfig:
    """Return the config of a complete run of two steps."""
    return RunConfig(
        scale="test",
        model=ModelConfig(
            encoder=EncoderConfig(width=32, depth=2, num_heads=2, attention="prefix"),
            decoder=DecoderConfig(width=32, depth=1, num_heads=2),
            image_px=16,
            patch_px=4,
            vocab_size=512,
            max_text_tokens=12,
        ),
        budget=BudgetConfig(samples=16, batch_size=8),
        data=DataConfig(
            sources=("openmoji_scenes", "fontawesome_scenes"),
            scenes=SceneConfig(num_scenes=400, num_objects=5, num_unseen=4),
            render_px=24,
            cache_dir=cache_dir,
        ),
        evaluation=EvaluationConfig(
            num_items=48,
            num_pairs=32,
            num_other_images=40,
            num_probe_scenes=40,
            curve_pairs=16,
            curve_points=2,
            num_examples=2,
            reader=ReaderConfig(samples=32, pairs=16, width=16, depth=1, batch_size=16),
            probe=ProbeConfig(learning_rates=(1e-3, 1e-2), weight_decays=(0.05,), epochs=1, head_dim=16),
        ),
        log=LogConfig(every_steps=1),
        precision="float32",
        device="cpu",
    )


@pytest.fixture(scope="session")
def pairs(tiny):
    """Return the data of the tiny run."""
    return prepare(tiny.data, tiny.model.vocab_size)


@pytest.fixture
def images(tiny):
    """Return random network inputs for the tiny model: float32 [6, 3, 16, 16]."""
    return torch.randn(6, 3, tiny.model.image_px, tiny.model.image_px, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def tokens(tiny):
    """Return random captions for the tiny model: int64 [6, 12]."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, tiny.model.vocab_size, (6, tiny.model.max_text_tokens), generator=generator)


@pytest.fixture
def batch(tiny, images, tokens):
    """Return a training batch of these images and tokens, with captions of 1 to 6 tokens, end of text included."""
    text_len_B = torch.arange(1, 7)
    token_BT = torch.where(torch.arange(tokens.shape[1]) < text_len_B[:, None] - 1, tokens, END_ID)
    prefix_len_B = torch.tensor([1, 3, 8, 12, 14, 15])
    supervised_N = (token_BT != END_ID).flatten().nonzero().squeeze(1)
    return Batch.of(images, token_BT, prefix_len_B, supervised_N, text_len_B, tiny)


@pytest.fixture
def tracing():
    """Trace compiled blocks, but generate no code."""
    torch.compiler.set_stance("default", force_backend="aot_eager")
    yield
    torch.compiler.set_stance("default")


@pytest.fixture(params=[(0o022, 0o644), (0o002, 0o664)], ids=["umask 022", "umask 002"])
def assert_shared(request):
    """Return a check, under two umasks, that every file in a folder has the permissions of a new file."""
    umask, expected = request.param

    def check(folder):
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}
        assert modes
        assert {str(path): oct(mode) for path, mode in modes.items() if mode != expected} == {}

    before = os.umask(umask)
    yield check
    os.umask(before)


@pytest.fixture(scope="session")
def with_samples():
    """Return a function that changes a run's number of training samples."""

    def change(config: RunConfig, samples: int) -> RunConfig:
        return replace(config, budget=replace(config.budget, samples=samples))

    return change


@pytest.fixture(scope="session")
def done(tmp_path_factory, cache_dir):
    """Return the runs folder of a finished sweep of one run and its untrained encoder."""
    runs_dir = tmp_path_factory.mktemp("done") / "runs"
    finished(runs_dir, cache_dir)
    return runs_dir


@pytest.fixture
def copied(done, tmp_path):
    """Return a copy of it, to change."""
    return shutil.copytree(done, tmp_path / "runs")
