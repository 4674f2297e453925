import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medssl.pretext.interpolation import interpolate_visible


def test_interpolation_is_a_weighted_mean_of_visible_voxels():
    volume = np.zeros((9, 9, 9), dtype=np.float32)
    volume[6:] = 1
    mask = np.zeros((9, 9, 9), dtype=bool)
    mask[4, 4, 4] = True
    volume[mask] = 99
    guess = interpolate_visible(volume, mask, np.ones(3))[mask]
    distances = ((np.indices(volume.shape) - 4) ** 2).sum(axis=0)[~mask]
    weights = np.exp(-distances / 2)
    assert guess == pytest.approx((weights * volume[~mask]).sum() / weights.sum(), abs=2e-3)


def test_out_of_reach_it_falls_back_on_the_mean():
    mask = np.ones((40, 4, 4), dtype=bool)
    mask[:2] = False
    volume = np.where(mask, 0, 0.7).astype(np.float32)
    assert interpolate_visible(volume, mask, np.ones(3))[-1] == pytest.approx(np.full((4, 4), 0.7))


@pytest.mark.parametrize("sigma", [(0.75, 0.75, 0.25), (6.0, 3.0, 1.0)])
def test_the_fast_blur_is_that_of_scipy(sigma):
    rng = np.random.default_rng(0)
    volume, mask = rng.random((12, 9, 7), dtype=np.float32), rng.random((12, 9, 7)) < 0.5
    visible = (~mask).astype(np.float32)
    sums, weights = (gaussian_filter(field, sigma, mode="constant") for field in (volume * visible, visible))
    pull = 1e-6
    expected = (sums + pull * volume[~mask].mean()) / (weights + pull)
    np.testing.assert_allclose(interpolate_visible(volume, mask, np.array(sigma)), expected, rtol=1e-5)
