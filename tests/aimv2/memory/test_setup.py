"""The choice of a setup by the memory that there is."""

from dataclasses import replace

import pytest

from aimv2.base.errors import UsageError
from aimv2.config.program import replaced
from aimv2.config.recipes.scales import demo, vit_1b, vit_3b, vit_l_2b
from aimv2.memory.setup import FEW, USABLE, Available, Loading, check_evaluation, choose, loading_of, resolved, setup_of
from aimv2.memory.training import Setup, image_bytes, predict
from aimv2.request.resolve import with_attention

GB = 10**9


@pytest.fixture
def on_cpu():
    return replace(with_attention(demo()), device="cpu", precision="float32")


def on_gpus(config, ranks, **changes):
    return replace(with_attention(config), ranks=ranks, device="cuda", precision="bfloat16", **changes)


def bytes_of(config, **values):
    setup = Setup(**{"parallel": "ddp", "activation_checkpointing": False} | values)
    return predict(config, setup).total


def of_size(micro_batch):
    return Setup(parallel="ddp", micro_batch=micro_batch, activation_checkpointing=False)


def test_the_whole_batch_is_computed_at_once_where_it_fits_and_a_small_share_is_enough(on_cpu):
    assert setup_of(on_cpu, 64 * GB) == of_size(16)
    assert setup_of(on_gpus(vit_l_2b(), 2048, ranks_per_node=2048), 40 * GB) == of_size(4)


@pytest.mark.parametrize("batch_size", [8192, 96, 100])
def test_micro_batches_are_equal_and_the_largest_that_fit(batch_size):
    config = on_gpus(vit_l_2b(), 1, budget=replace(vit_l_2b().budget, samples=0, batch_size=batch_size))
    choice = choose(config, 40 * GB)
    size = choice.setup.micro_batch
    larger = [other for other in range(size + 1, batch_size + 1) if batch_size % other == 0]
    assert batch_size % size == 0
    assert choice.memory.total == bytes_of(config, micro_batch=size) <= USABLE * 40 * GB
    assert all(bytes_of(config, micro_batch=other) > USABLE * 40 * GB for other in larger)


def test_weights_are_sharded_where_the_whole_leaves_too_little():
    config = on_gpus(vit_1b(), 8)
    few = int(bytes_of(config, micro_batch=FEW) / USABLE)
    assert setup_of(config, few + GB).parallel == "ddp"
    sharded = setup_of(config, few - GB)
    assert (sharded.parallel, sharded.activation_checkpointing) == ("fsdp", False)
    assert sharded.micro_batch >= FEW
    assert setup_of(replace(config, parallel="ddp"), few - GB).activation_checkpointing


def test_each_node_has_a_copy_where_gradients_would_cross_nodes_for_longer_than_a_micro_batch_takes():
    """Of vit_3b an H100 holds 16 images with whole weights, of vit_l 128."""
    large, small = on_gpus(vit_3b(), 64), on_gpus(vit_l_2b(), 64)
    assert (setup_of(large, 80 * GB).parallel, setup_of(small, 80 * GB).parallel) == ("hsdp", "ddp")
    assert setup_of(replace(large, parallel="ddp"), 80 * GB).parallel == "ddp"
    assert setup_of(replace(large, ranks=8), 80 * GB).parallel == "ddp"
    assert setup_of(replace(large, ranks=64, ranks_per_node=64), 80 * GB).parallel == "ddp"
    uneven = on_gpus(vit_l_2b(), 12, budget=replace(vit_l_2b().budget, samples=0, batch_size=192))
    assert setup_of(uneven, 80 * GB).parallel == "ddp", "shards of one copy would cross nodes in every micro-batch"


def test_shards_are_those_of_a_node():
    config = on_gpus(vit_3b(), 64)
    setup = replace(of_size(16), activation_checkpointing=True)
    hsdp, fsdp, whole = (predict(config, replace(setup, parallel=name)) for name in ("hsdp", "fsdp", "ddp"))
    assert (8 * hsdp.weights, 64 * fsdp.moments) == pytest.approx((whole.weights, whole.moments), rel=1e-6)


def test_blocks_are_computed_twice_only_where_few_images_would_fit():
    config = on_gpus(vit_l_2b(), 1)
    few = int(bytes_of(config, micro_batch=FEW) / USABLE)
    assert not setup_of(config, few + GB).activation_checkpointing
    chosen = setup_of(config, few - GB)
    assert chosen.activation_checkpointing
    assert chosen.micro_batch >= FEW
    without = setup_of(replace(config, activation_checkpointing=False), few - GB)
    assert not without.activation_checkpointing
    assert without.micro_batch < FEW


def test_given_values_are_kept_and_ask_for_no_memory(on_cpu):
    given = replace(on_cpu, parallel="fsdp", micro_batch=4, activation_checkpointing=True)
    assert setup_of(given) == Setup(parallel="fsdp", micro_batch=4, activation_checkpointing=True)
    chosen = setup_of(replace(on_cpu, micro_batch=4), 64 * GB)
    assert (chosen.micro_batch, chosen.activation_checkpointing) == (4, False)
    assert setup_of(replace(on_cpu, micro_batch=100), 64 * GB).micro_batch == 16, "there are no more"


def test_a_given_micro_batch_decides_on_checkpointing_and_is_never_refused():
    config = on_gpus(vit_l_2b(), 1, micro_batch=64)
    assert not setup_of(config, 80 * GB).activation_checkpointing
    assert setup_of(config, 40 * GB).activation_checkpointing
    assert setup_of(config, GB).micro_batch == 64


def test_a_run_that_cannot_fit_is_refused_with_the_numbers(on_cpu):
    with pytest.raises(UsageError, match=r"^no micro-batch fits: 1 image on each of 8 ranks with ") as error:
        setup_of(on_gpus(vit_1b(), 8), 4 * GB)
    sentence = str(error.value)
    assert " with parallel=fsdp and activation checkpointing takes " in sentence
    assert "(weights 0.7, gradients 0.7, moments 1.5, copies " in sentence
    assert "and 90% of 4.0 GB can be used" in sentence
    assert "\n" not in sentence
    with pytest.raises(UsageError, match=r"^no micro-batch fits: 1 image with activation checkpointing takes "):
        setup_of(on_cpu, GB // 10)
    untrained = replace(on_cpu, budget=replace(on_cpu.budget, samples=0))
    assert setup_of(untrained, GB // 10).micro_batch == 1, "it does not train"


def test_a_resolved_run_has_the_same_name_and_its_setup(on_cpu):
    setup = Setup(parallel="ddp", micro_batch=8, activation_checkpointing=True)
    run = resolved(on_cpu, setup)
    assert run.name == on_cpu.name
    assert setup_of(run) == setup


ENOUGH = Available(device=80 * GB, files=400 * GB)


@pytest.mark.parametrize(
    ("less", "message"),
    [
        ({"device": 8 * GB}, r"takes \d+\.\d GB of GPU memory on each rank, and 7\.2 GB can be used; use a device"),
        ({"files": 8 * GB}, r"takes 35\.8 GB of temporary files on each rank, and 8\.0 GB can be used; set TMPDIR to"),
    ],
    ids=["device", "files"],
)
def test_a_run_whose_evaluation_cannot_fit_is_refused_before_it_trains(less, message):
    config = on_gpus(vit_3b(), 8)
    check_evaluation(config, ENOUGH)
    with pytest.raises(UsageError, match="^the final evaluation does not fit: it " + message):
        check_evaluation(config, ENOUGH._replace(**less))


def test_this_machines_room_is_shared_by_its_ranks(on_cpu, monkeypatch):
    one = Available.on_this_machine(on_cpu)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    two = Available.on_this_machine(replace(on_cpu, ranks=4))
    assert two.device == one.device // 2
    assert two.files == pytest.approx(one.files / 2, rel=0.1)


def test_a_choice_fits_if_training_and_evaluation_do():
    choice = choose(on_gpus(vit_1b(), 64), 80 * GB)
    assert choice.fits
    assert choice.needed == max(choice.memory.total, choice.evaluation.device)
    small = replace(choice, usable=min(choice.memory.total, choice.evaluation.device))
    assert not small.fits


def on_a_gpu(config, **values):
    return replaced(replace(config, device="cuda", precision="bfloat16"), values)


def test_cores_of_the_cpu_compute_and_do_not_load():
    config = replace(demo(), device="cpu")
    assert loading_of(config, of_size(16), cores=64) == Loading(0, 0)
    assert loading_of(replaced(config, {"loader.num_workers": 3}), of_size(16), cores=1) == Loading(3, 2)


@pytest.mark.parametrize(("cores", "threads", "number"), [(1, 1, 0), (8, 1, 7), (8, 3, 5), (2, 4, 0), (100, 1, 16)])
def test_a_gpu_has_a_loader_process_for_each_core_that_its_training_process_leaves(cores, threads, number):
    config = replace(on_a_gpu(demo()), threads=threads)
    assert loading_of(config, of_size(16), cores=cores, shared=10**12).num_workers == number


@pytest.mark.parametrize(
    ("micro_batch", "number", "prefetched"), [(16, 4, 2), (2, 4, 2), (1, 4, 4), (1, 3, 6), (1, 16, 2)]
)
def test_the_micro_batches_of_the_next_step_are_prepared_during_a_step(micro_batch, number, prefetched):
    """Of the 16 images of a step, and at least two by each process."""
    found = loading_of(on_a_gpu(demo(), **{"loader.num_workers": number}), of_size(micro_batch))
    assert found == Loading(number, prefetched)
    assert found.ahead * micro_batch >= 16


def test_processes_are_as_many_as_shared_memory_holds():
    config = on_a_gpu(demo())
    part = 16 * image_bytes(config, config.model.num_patches)
    assert loading_of(config, of_size(16), cores=99, shared=9 * part).num_workers == 4, "two micro-batches each"
    assert loading_of(config, of_size(16), cores=99, shared=part).num_workers == 0


def test_an_item_has_the_bytes_of_its_tensors():
    config = demo()
    pixels, others = 3 * 32**2, 16 * 8 + 2 * 16 * 8  # scored patches; tokens and the supervised ones
    assert image_bytes(config, 16) == 4 * pixels + others
    files = replaced(config, {"data.sources": ("mine.yaml",), "augment": {"min_scale": 0.4}})
    assert image_bytes(files, 16) == pixels + others
    assert image_bytes(replaced(files, {"data.pixels": "shuffled"}), 16) == 2 * pixels + others
    assert image_bytes(replaced(files, {"augment.hidden_fraction": 0.5}), 16) == 5 * pixels + others


def test_native_steps_count_by_the_area_that_takes_the_most():
    config = on_a_gpu(demo(), **{"native.areas": (8, 16, 32), "model.encoder.positions": "sincos"})
    one_image = loading_of(replaced(config, {"loader.num_workers": 2}), of_size(1))
    assert one_image.prefetched == 8, "16 images of 8 or 16 patches, as two of 8 are a micro-batch"
