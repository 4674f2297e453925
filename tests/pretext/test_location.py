import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.networks.build import build_encoder
from medssl.pretext.drawing import figure_to_rgb
from medssl.pretext.location import LocationPretextd, LocationTask
from medssl.pretext.task import TaskSettings
from medssl.training.batch import collate

CROP = (8, 6, 4)


@pytest.fixture
def make_task(make_context):
    def make(**context) -> LocationTask:
        return LocationTask(TaskSettings(), make_context(crop_size=CROP, **context))

    return make


def ramps(shape, spacing=(1, 1, 1)):
    """Return a volume whose three channels are each voxel's distance from the middle along X, Y and Z."""
    along = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True)]
    return np.stack(np.meshgrid(*along, indexing="ij")).astype(np.float32)


@settings(deadline=None, max_examples=30)
@given(extra=st.tuples(*[st.integers(-3, 12)] * 3), seed=st.integers(0, 2**32 - 1))
def test_the_target_is_where_the_voxels_come_from(extra, seed):
    scan = ramps(tuple(np.add(CROP, extra).tolist()))
    sample = LocationPretextd("image", CROP).set_random_state(seed)({"image": scan})
    found = sample["location_target"] * (np.array(CROP) / 2)[:, None, None, None]
    visible = np.broadcast_to(~sample["location_mask"], found.shape)
    np.testing.assert_allclose(found[visible], sample["location_crop"][visible], atol=1e-5)
    assert visible[0].sum() == np.prod(np.minimum(CROP, scan.shape[1:]))


def test_a_window_knows_its_place_in_the_scan():
    scan = ramps((30, 20, 16))
    start = np.array([9, 3, 5])
    window = scan[:, 9:21, 3:15, 5:13]
    data = {"image": window, "window_start": start, "scan_shape": np.array(scan.shape[1:])}
    sample = LocationPretextd("image", CROP).set_random_state(0)(data)
    found = sample["location_target"] * (np.array(CROP) / 2)[:, None, None, None]
    np.testing.assert_allclose(found, sample["location_crop"], atol=1e-5)


def test_places_are_spread_over_the_scan():
    transform = LocationPretextd("image", CROP).set_random_state(0)
    starts = np.array([transform.draw((10, 9, 4)) for _ in range(300)])
    assert [sorted(set(axis.tolist())) for axis in starts.T] == [[0, 1, 2], [0, 1, 2, 3], [0]]


def test_metric_is_in_millimetres_and_ignores_padding(make_task):
    task = make_task(spacing_mm=(1.0, 2.0, 3.0))
    sample = task.make_transform().set_random_state(0)({"image": ramps((6, 20, 20))[:1]})
    batch = collate([sample], task.batch_keys)
    moved = batch["location_target"] + torch.tensor([0.5, 0.0, 0.0]).view(1, 3, 1, 1, 1)
    spoilt = torch.where(batch["location_mask"], torch.full_like(moved, 99.0), moved)
    assert batch["location_mask"].any()
    assert task.metrics(spoilt, batch)["mae_mm"].item() == pytest.approx(0.5 * 4 * 1.0 / 3)
    assert task.loss(spoilt, batch).item() == pytest.approx((0.5 - 0.1) / 3)
    assert task.loss(batch["location_target"], batch).item() == 0


def test_trivial_cues_find_brightness_that_tells_the_place_and_none_in_noise(make_task):
    task, random = make_task(), np.random.RandomState(0)
    transform = task.make_transform().set_random_state(0)
    ramp = (ramps((24, 24, 24)).sum(axis=0, keepdims=True) + 36) / 72
    telling = [transform({"image": ramp}) for _ in range(120)]
    noisy = [transform({"image": random.rand(1, 24, 24, 24)}) for _ in range(120)]
    told, silent = task.trivial_cues(telling[:80], telling[80:]), task.trivial_cues(noisy[:80], noisy[80:])
    assert told.trivial < 0.8 * told.chance
    assert silent.trivial == pytest.approx(silent.chance, rel=0.15)


@pytest.mark.parametrize("is_true", [True, False])
def test_a_network_learns_where_it_is_but_not_from_shuffled_places(make_context, is_true):
    torch.manual_seed(0)
    cube = (8, 8, 8)
    task = LocationTask(TaskSettings(), make_context(crop_size=cube))
    encoder = build_encoder("residual_unet", "tiny", crop_size=cube, spacing_mm=(1, 1, 1))
    head = task.make_head(encoder)
    transform = task.make_transform().set_random_state(0)
    texture = sum(index**2 for index in np.indices((16, 16, 16)))  # finer and finer along each axis
    scan = 0.5 + 0.5 * np.sin(0.06 * texture)[None].astype(np.float32)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-2)
    errors = []
    for _ in range(120):
        batch = collate([transform({"image": scan}) for _ in range(8)], task.batch_keys)
        if not is_true:
            batch["location_target"] = batch["location_target"].roll(1, dims=0)
        prediction = head(encoder(batch["location_crop"]), batch)
        optimiser.zero_grad()
        task.loss(prediction, batch).mean().backward()
        optimiser.step()
        errors.append(task.metrics(prediction, batch)["mae_mm"].mean().item())
    assert (np.mean(errors[-20:]) < 2.1) == is_true  # 2.25 without a look at the crop


def test_the_picture_says_how_far_off_the_guess_is(make_task, make_blobs):
    task = make_task()
    sample = task.make_transform().set_random_state(0)({"image": make_blobs((20, 18, 16))})
    sample["window"] = sample["image"]
    off = torch.tensor([3.0 / 4, 4.0 / 3, 0.0]).view(3, 1, 1, 1)
    figure = task.picture(sample, (torch.from_numpy(sample["location_target"]) + off)[None])
    assert "5.0 mm off" in figure.get_suptitle()
    assert figure_to_rgb(figure).std() > 0
