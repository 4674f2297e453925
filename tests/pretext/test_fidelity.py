import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from medssl.pretext.fidelity import SSIM_RADIUS, hidden_mean, hidden_psnr, ssim_map


@pytest.fixture
def volumes(make_blobs) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two target volumes, noisy versions of them, and masks."""
    target = torch.from_numpy(np.stack([make_blobs((14, 12, 13), seed=seed) for seed in (0, 1)]))
    generator = torch.Generator().manual_seed(0)
    rebuilt = target + torch.tensor([0.05, 0.2]).view(2, 1, 1, 1, 1) * torch.randn(
        target.shape, generator=generator
    )
    return rebuilt, target, torch.rand(target.shape, generator=generator) < 0.4


def test_hidden_mean_is_a_plain_loop(volumes):
    rebuilt, _, mask = volumes
    expected = [
        np.mean([value for value, hidden in zip(one.flatten(), where.flatten(), strict=True) if hidden])
        for one, where in zip(rebuilt.numpy(), mask.numpy(), strict=True)
    ]
    assert hidden_mean(rebuilt, mask).numpy() == pytest.approx(expected, rel=1e-5)


def test_hidden_mean_counts_every_channel(volumes):
    rebuilt, _, mask = volumes
    two = torch.cat([rebuilt, 3 * rebuilt], dim=1)
    torch.testing.assert_close(hidden_mean(two, mask), 2 * hidden_mean(rebuilt, mask))


def test_psnr_is_that_of_skimage(volumes):
    rebuilt, target, mask = volumes
    expected = [
        peak_signal_noise_ratio(true[where].numpy(), made[where].numpy(), data_range=1)
        for made, true, where in zip(rebuilt, target, mask, strict=True)
    ]
    assert hidden_psnr(rebuilt, target, mask).numpy() == pytest.approx(expected, rel=1e-4)


def test_psnr_of_a_perfect_copy_is_finite(volumes):
    _, target, mask = volumes
    assert hidden_psnr(target, target, mask).tolist() == pytest.approx([100, 100])


def test_ssim_is_that_of_skimage_up_to_the_faces(volumes):
    rebuilt, target, _ = volumes
    inner = (slice(SSIM_RADIUS, -SSIM_RADIUS),) * 3
    for made, true, ssim in zip(rebuilt, target, ssim_map(rebuilt, target), strict=True):
        padded = [
            np.pad(volume[0].numpy().astype(np.float64), SSIM_RADIUS, mode="edge") for volume in (made, true)
        ]
        _, expected = structural_similarity(
            *padded, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
        )
        assert np.abs(ssim[0].numpy() - expected[inner]).max() < 1e-3


def test_ssim_keeps_full_precision_under_autocast(volumes):
    rebuilt, target, _ = volumes
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ssim = ssim_map(rebuilt, target)
    assert torch.equal(ssim, ssim_map(rebuilt, target))
