"""Loader processes and the bytes that the host holds."""

from dataclasses import replace

import pytest

from aimv2.config.paths import replaced
from aimv2.config.recipes.scales import demo, vit_l_2b
from aimv2.memory import Loading, Setup
from aimv2.memory.loading import MAX_HOST_BYTES, choose_loading, host_bytes, image_bytes

FILES = {"data.sources": ("mine.yaml",), "augment": {"min_scale": 0.4}}
GB = 10**9


def setup(micro_batch):
    return Setup(parallel="ddp", micro_batch=micro_batch, activation_checkpointing=False)


def on_gpu(config, **values):
    return replaced(replace(config, device="cuda", precision="bfloat16"), values)


def test_cores_of_the_cpu_compute_and_do_not_load():
    config = replace(demo(), device="cpu")
    assert choose_loading(config, setup(16), cores=64) == Loading(0, 0)
    assert choose_loading(replaced(config, {"loader.num_workers": 3}), setup(16), cores=1) == Loading(3, 2)


@pytest.mark.parametrize(("cores", "threads", "number"), [(1, 1, 0), (8, 1, 7), (8, 3, 5), (2, 4, 0), (100, 1, 16)])
def test_a_gpu_has_a_loader_process_for_each_core_that_its_training_process_leaves(cores, threads, number):
    config = replace(on_gpu(demo()), threads=threads)
    assert choose_loading(config, setup(16), cores=cores).num_workers == number


@pytest.mark.parametrize(
    ("micro_batch", "number", "prefetched"), [(16, 4, 2), (2, 4, 2), (1, 4, 4), (1, 3, 6), (1, 16, 2)]
)
def test_the_micro_batches_of_the_next_step_are_prepared_during_a_step(micro_batch, number, prefetched):
    """Of the 16 images of a step, and at least two by each process."""
    found = choose_loading(on_gpu(demo(), **{"loader.num_workers": number}), setup(micro_batch))
    assert found == Loading(number, prefetched)
    assert found.ahead * micro_batch >= 16


def test_processes_are_as_many_as_shared_memory_holds():
    config = on_gpu(demo())
    part = 16 * image_bytes(config, config.model.num_patches)
    assert choose_loading(config, setup(16), shared=9 * part).num_workers == 4, "two micro-batches each"
    assert choose_loading(config, setup(16), shared=part).num_workers == 0


def test_a_rank_holds_its_batch_and_what_is_ahead_in_less_than_the_limit():
    """Batch 8192 on one rank: the bytes of its pictures, about twice with what is ahead, and at most twice that as
    powers of two. As float32, with 14 processes and a whole step an item, it was 143 GB."""
    config = on_gpu(vit_l_2b(), **FILES)
    picture = 3 * 224**2
    assert picture < image_bytes(config, 256) < 1.03 * picture
    for micro_batch in (16, 256):
        loading = choose_loading(config, setup(micro_batch))
        assert loading.num_workers == 16
        held = host_bytes(config, setup(micro_batch), loading)
        assert 2 * 8192 * picture < held < 4.2 * 8192 * picture + 3 * GB < MAX_HOST_BYTES


def test_processes_are_fewer_where_their_batches_would_exceed_the_limit():
    """Whole batches of 8192 float32 images are 4.9 GB each."""
    config = on_gpu(vit_l_2b())
    assert choose_loading(config, setup(8192)).num_workers == 0
    assert 0 < choose_loading(config, setup(256)).num_workers < 16
    small = replaced(config, {"budget.batch_size": 1024})
    number = choose_loading(small, setup(1024)).num_workers
    assert 0 < number < 16
    for more, fits in ((number, True), (number + 1, False)):
        assert (host_bytes(small, setup(1024), Loading(more, 2)) <= MAX_HOST_BYTES) is fits


def test_an_item_has_the_bytes_of_its_tensors():
    config = demo()
    pixels, others = 3 * 32**2, 16 * 8 + 2 * 16 * 8  # scored patches; tokens and the supervised ones
    assert image_bytes(config, 16) == 4 * pixels + others
    files = replaced(config, FILES)
    assert image_bytes(files, 16) == pixels + others
    assert image_bytes(replaced(files, {"data.pixels": "shuffled"}), 16) == 2 * pixels + others
    assert image_bytes(replaced(files, {"augment.hidden_fraction": 0.5}), 16) == 5 * pixels + others


def test_native_steps_count_by_the_area_that_takes_the_most():
    config = on_gpu(demo(), **{"native.areas": (8, 16, 32), "model.encoder.positions": "sincos"})
    one_image = choose_loading(replaced(config, {"loader.num_workers": 2}), setup(1))
    assert one_image.prefetched == 8, "16 images of 8 or 16 patches, as two of 8 are a micro-batch"
