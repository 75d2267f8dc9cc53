"""What the benchmarks of size load, and the memory that they take. Nothing here depends on time."""

import io

import numpy as np
import pytest
from PIL import Image

from aimv2.base.order import sample_order
from aimv2.config.data_config import AugmentConfig
from aimv2.config.paths import replaced
from aimv2.data.prepare import prepare
from aimv2.data.transforms import unnormalise
from benchmarks import scale
from benchmarks.synthetic import SCENES, draw

WHOLE = AugmentConfig(min_scale=1, min_ratio=1, max_ratio=1, flip_probability=0)
TWO_BILLION = {"num_shards": 2000, "shard_rows": 1_000_000}


def first_numbers(config, num_shards, shard_rows, block_rows, num_samples):
    """Return the numbers of the first samples of a run, by the list of all that are not held out."""
    total = num_shards * shard_rows
    training = np.delete(np.arange(total), np.arange(0, total, max(2, total // 1000)))
    places = {"seed": config.seed, "num_rows": len(training), "block_rows": block_rows}
    return training[sample_order(np.arange(num_samples), **places)[1]]


@pytest.mark.parametrize(
    ("num_shards", "shard_rows", "block_rows"),
    [(2, 9, 65_538), (40, 1000, 66_000), (300, 3000, 66_000), (2, 500_000, 65_536)],
)
def test_first_batch_of_a_huge_index_has_the_right_pictures_and_captions(tmp_path, num_shards, shard_rows, block_rows):
    config = scale.huge_run(tmp_path / "huge", num_shards=num_shards, shard_rows=shard_rows, batch_size=16)
    config = replaced(config, {"augment": vars(WHOLE)})
    batch = scale.load_first(config)
    numbers = first_numbers(config, num_shards, shard_rows, block_rows, 16)
    tokenizer = prepare(config.data, config.model).tokenizer
    for number, image, tokens in zip(numbers.tolist(), batch.image, batch.token_BT.tolist(), strict=True):
        content = draw(SCENES, np.random.default_rng(number))
        np.testing.assert_array_equal(unnormalise(image), np.asarray(Image.open(io.BytesIO(content))))
        assert tokenizer.decode(tokens).split()[0] == str(number)
    assert len({image.numpy().tobytes() for image in batch.image}) > 8, "pictures differ, so that the test can fail"


def test_opening_two_billion_samples_takes_no_memory_for_them(tmp_path):
    config = scale.huge_run(tmp_path / "huge", **TWO_BILLION, batch_size=8)
    scale.load_first(config)  # fills caches
    assert (tmp_path / "huge.index" / "rows.bin").stat().st_size > 2e9 * 30
    assert scale.traced_peak(lambda: scale.load_first(config)) < 10e6  # a byte a sample would be 2,000e6


def test_peak_is_that_of_a_call_alone():
    before = np.zeros(10**6, np.uint8)
    peak = scale.traced_peak(lambda: (np.zeros(3 * 10**6, np.uint8)[0], np.zeros(2 * 10**6, np.uint8)[0], before[0]))
    assert 3e6 < peak < 3.1e6
