"""Sources with captions of one kind: every sample shows that kind, and is counted as it."""

import numpy as np
import pytest

from aimv2.config.paths import replaced
from aimv2.data.prepare import prepare
from aimv2.data.reading import Reader
from tests.helpers.own_data import own_source


@pytest.mark.parametrize(
    ("kinds", "counts"), [(("short",), {0}), (("dense",), {40}), (("short", "dense"), set(range(1, 40)))]
)
def test_dense_captions_are_counted_where_a_source_has_them(tiny, tmp_path, kinds, counts):
    config = replaced(tiny, {"data.sources": (own_source(tmp_path, kinds=kinds),), "data.dense_fraction": 0.5})
    samples = Reader(config, prepare(config.data, config.model).train).read(np.arange(40))
    assert int(samples.is_dense_B.sum()) in counts
    assert [caption.startswith("long") for caption in samples.captions] == samples.is_dense_B.tolist()
