import numpy as np
import pytest
from aimv2.data.decode import square
from aimv2.datasets.images import Bad, Shape, Squares, batches, counts, squares

from tests.helpers.public_encoders import IMAGE_PX


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_hold_the_rows_in_order_whatever_reads_them(workers, pictures, memory_records, as_png):
    files = [as_png(picture) for picture in pictures]
    files[5] = None
    records, shape = memory_records(files), Shape(IMAGE_PX, 0.875, 10**6)
    found = list(batches(Squares(records, range(2, 9), shape, 3, square), workers, pin_memory=False))
    assert [len(batch.images) for batch in found] == [3, 3, 1]
    images = np.concatenate([batch.images.numpy() for batch in found])
    expected = [
        square(files[row], 32, 10**6)[2:30, 2:30] if files[row] else np.zeros((28, 28, 3)) for row in range(2, 9)
    ]
    assert (images == np.stack(expected)).all()
    assert [tuple(each) for batch in found for each in batch.bad] == [(5, "key-5", "missing image", "key-5")]


def test_an_image_over_the_limit_is_bad(pictures, memory_records, as_png):
    height, width = pictures[0].shape[:2]
    records = memory_records([as_png(pictures[0])])
    for max_pixels, is_bad in ((height * width, False), (height * width - 1, True)):
        _, bad = squares(records, [0], Shape(IMAGE_PX, 1.0, max_pixels), square)
        assert [each.reason for each in bad] == ["image over the pixel limit"] * is_bad


def test_reasons_are_counted():
    bad = [
        Bad(row, f"{row}", reason, "")
        for row, reason in enumerate(["undecodable image", "missing image"] * 2 + ["missing image"])
    ]
    assert counts(bad) == "3 missing image, 2 undecodable image"
