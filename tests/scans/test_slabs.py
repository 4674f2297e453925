import tracemalloc

import numpy as np

from medssl.scans.slabs import resample_slabs

SHAPE, SHAPE_TO = (200, 40, 40), (300, 44, 50)


def slabs(length):
    for _ in range(SHAPE[0] // length):
        yield np.ones((4, length, *SHAPE[1:]), np.float32)


def peak_bytes(length):
    tracemalloc.start()
    for _, channels in resample_slabs(slabs(length), axis=0, shape=SHAPE, shape_to=SHAPE_TO):
        for channel in channels:
            np.testing.assert_allclose(channel, 1, atol=1e-5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_planes_come_in_order_and_each_once():
    planes = [
        index
        for planes, _ in resample_slabs(slabs(8), axis=0, shape=SHAPE, shape_to=SHAPE_TO)
        for index in range(planes.start, planes.stop)
    ]
    assert planes == [*range(SHAPE_TO[0])]


def test_memory_is_that_of_a_slab_and_not_of_the_volume():
    matrix_bytes = 3 * 8 * SHAPE[0] * SHAPE_TO[0]
    slab_bytes = 4 * 4 * 8 * SHAPE[1] * SHAPE[2]
    volume_bytes = 4 * 4 * np.prod(SHAPE)
    assert peak_bytes(8) < matrix_bytes + 6 * slab_bytes < volume_bytes + matrix_bytes
    assert peak_bytes(200) > matrix_bytes / 3 + volume_bytes
