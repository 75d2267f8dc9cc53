import numpy as np
import pytest

from aimv2.data.batches.loader import loaded
from aimv2.data.decode import square
from aimv2.datasets.labelled import PictureBatches, Shape, Unusable, counts, pictures
from tests.helpers.memory_records import MemoryRecords, png, random_pictures
from tests.helpers.public_encoders import IMAGE_PX


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_hold_the_rows_in_order_whatever_reads_them(workers):
    files = [png(picture) for picture in random_pictures()]
    files[5] = None
    batches = PictureBatches(MemoryRecords(files), range(2, 9), Shape(IMAGE_PX, 0.875, 10**6), 3)
    found = list(loaded(batches, range(len(batches)), num_workers=workers, pin_memory=False))
    squares = [images for batch in found for _, images in batch.by_size]
    assert [len(images) for images in squares] == [3, 3, 1], "one size in each batch"
    expected = [
        square(files[row], 32, 10**6)[2:30, 2:30] if files[row] else np.zeros((28, 28, 3)) for row in range(2, 9)
    ]
    assert (np.concatenate(squares) == np.stack(expected)).all()
    assert [tuple(each) for batch in found for each in batch.unusable] == [(5, "key-5", "missing image", "key-5")]


def test_an_image_over_the_limit_cannot_be_used():
    picture = random_pictures()[0]
    height, width = picture.shape[:2]
    for max_pixels, is_bad in ((height * width, False), (height * width - 1, True)):
        unusable = []
        list(pictures(MemoryRecords([png(picture)]), [0], Shape(IMAGE_PX, 1.0, max_pixels), unusable))
        assert [each.reason for each in unusable] == ["image over the pixel limit"] * is_bad


def test_reasons_are_counted():
    reasons = ["undecodable image", "missing image"] * 2 + ["missing image"]
    found = [Unusable(row, f"{row}", reason, "") for row, reason in enumerate(reasons)]
    assert counts(found) == "3 missing image, 2 undecodable image"
