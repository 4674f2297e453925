import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import Compose, ScaleIntensityd

from medssl.config.load import validate_section
from medssl.errors import ConfigError
from medssl.pretext.drawing import figure_to_rgb
from medssl.pretext.mixture import PretextMixture, PretextModel
from medssl.pretext.position import (
    NO_ROOM,
    Placement,
    PositionHead,
    PositionPretextd,
    PositionSettings,
    PositionTask,
    standardise,
)
from medssl.training.batch import collate

PATCH = (6, 5, 4)


@pytest.fixture
def make_task(make_context):
    def make(*, context=None, **values) -> PositionTask:
        checked = validate_section(PositionSettings, values, where="tasks.position")
        return PositionTask(checked, make_context(**(context or {})))

    return make


def separation(starts, patch_size):
    """Return the free voxels between two boxes along each axis, negative where they overlap."""
    first, second = starts
    return np.abs(second - first) - patch_size


@settings(deadline=None, max_examples=40)
@given(
    extra=st.tuples(*[st.integers(0, 20)] * 3),
    gap=st.integers(0, 5),
    jitter=st.integers(0, 5),
    axes=st.sets(st.sampled_from([0, 1, 2]), min_size=1),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_placement_is_inside_and_lies_where_its_target_says(extra, gap, jitter, axes, seed):
    patch = np.array(PATCH)
    shape = tuple((2 * patch + gap + extra).tolist())
    transform = PositionPretextd("image", PATCH, gap=gap, jitter=jitter, axes=sorted(axes))
    transform.set_random_state(seed=seed)
    for _ in range(5):
        placement = transform.draw(shape)
        direction = np.array(transform.pair.directions[placement.target])
        assert (placement.starts >= 0).all()
        assert (placement.starts + patch <= shape).all()
        shift = placement.starts[1] - placement.starts[0]
        apart = direction != 0
        np.testing.assert_array_equal(np.sign(shift)[apart], direction[apart])
        assert set(np.flatnonzero(apart)) <= axes
        free = separation(placement.starts, patch)
        assert (free[apart] >= gap).all()
        assert (free[apart] <= gap + jitter).all()
        assert (np.abs(shift[~apart]) <= jitter).all()


@pytest.mark.parametrize(("axes", "classes"), [((0, 1, 2), 26), ((0, 2), 8), ((1,), 2)])
def test_all_directions_are_drawn_as_often_and_all_jitter_is_used(axes, classes):
    transform = PositionPretextd("image", (4, 4, 4), gap=3, jitter=2, axes=axes).set_random_state(seed=0)
    placements = [transform.draw((20, 20, 20)) for _ in range(100 * classes)]
    counts = np.bincount([placement.target for placement in placements])
    assert len(transform.pair.directions) == len(counts) == classes
    assert counts.min() > 60
    assert counts.max() < 140
    shifts = np.array([placement.starts[1] - placement.starts[0] for placement in placements])
    for axis in range(3):
        beside, apart = {-2, -1, 0, 1, 2}, {-9, -8, -7, 7, 8, 9}
        possible = beside if axis not in axes else apart if len(axes) == 1 else beside | apart
        assert set(shifts[:, axis].tolist()) == possible


def test_the_pair_lies_anywhere_in_the_volume():
    transform = PositionPretextd("image", (4, 4, 4), gap=0, jitter=0).set_random_state(seed=0)
    starts = np.array([transform.draw((16, 16, 16)).starts for _ in range(3000)])
    assert set(starts.ravel().tolist()) == set(range(13))


@pytest.mark.parametrize("normalise", [True, False])
def test_applying_a_placement_is_exact(make_blobs, normalise):
    volume = make_blobs((20, 18, 16))
    starts = np.array([[1, 2, 3], [11, 3, 9]])
    transform = PositionPretextd("image", PATCH, normalise=normalise)
    made = transform.apply(volume, Placement(7, starts), key="image")
    expected = np.stack([volume[:, 1:7, 2:7, 3:7], volume[:, 11:17, 3:8, 9:13]])
    if normalise:
        expected = [(patch - patch.mean()) / patch.std() for patch in expected]
    np.testing.assert_allclose(made["position_patches"], expected, atol=1e-5)
    assert made["position_patches"].dtype == np.float32
    assert made["position_target"] == 7
    assert made["position_target"].dtype == np.int64
    np.testing.assert_array_equal(made["position_boxes"], starts)


def test_normalised_patches_forget_brightness_contrast_and_each_other(make_blobs):
    patches = make_blobs((6, 6, 6))[None].repeat(2, axis=0)
    changed = patches * np.array([1, 3])[:, None, None, None, None] + 0.2
    standard = standardise(changed)
    np.testing.assert_allclose(standard[0], standard[1], atol=1e-5)
    np.testing.assert_allclose(standard.mean(axis=(2, 3, 4)), 0, atol=1e-5)
    np.testing.assert_allclose(standard.std(axis=(2, 3, 4)), 1, atol=1e-5)


def test_a_constant_patch_becomes_zeros(make_blobs):
    patches = np.stack([make_blobs((4, 4, 4)), np.full((1, 4, 4, 4), 0.3, dtype=np.float32)])
    assert standardise(patches)[0].std() > 0.9
    np.testing.assert_array_equal(standardise(patches)[1], 0)


def test_the_same_seed_gives_the_same_patches_in_anyones_compose(make_blobs):
    volume = make_blobs((24, 24, 24))

    def draw(seed):
        transform = Compose([ScaleIntensityd("image"), PositionPretextd("image", (6, 6, 6))])
        return transform.set_random_state(seed=seed)({"image": volume})

    np.testing.assert_array_equal(draw(1)["position_patches"], draw(1)["position_patches"])
    assert not np.array_equal(draw(1)["position_patches"], draw(2)["position_patches"])
    np.testing.assert_array_equal(draw(1)["image"], ScaleIntensityd("image")({"image": volume})["image"])


@pytest.mark.parametrize("shape", [(14, 40, 40), (3, 4, 4)])
def test_a_scan_without_room_is_neither_trained_on_nor_scored(make_task, make_blobs, shape):
    task = make_task(patch_size=6)
    sample = task.make_transform()({"image": make_blobs(shape)})
    assert sample["position_target"] == NO_ROOM
    np.testing.assert_array_equal(sample["position_patches"], np.zeros((2, 1, 6, 6, 6)))
    logits = torch.randn(1, 26, requires_grad=True)
    batch = collate([sample], task.batch_keys)
    loss = task.loss(logits, batch)
    loss.sum().backward()
    assert loss.tolist() == [0]
    assert logits.grad.abs().max() == 0
    assert task.metrics(logits, batch)["accuracy"].isnan().all()


def test_loss_and_accuracy_of_each_sample(make_task):
    task = make_task()
    logits, target = torch.randn(4, 26), torch.tensor([0, 1, NO_ROOM, 25])
    logits[1, 1] = logits[3, 0] = 100
    loss = task.loss(logits, {"position_target": target})
    assert loss.shape == (4,)
    torch.testing.assert_close(loss[0], -F.log_softmax(logits[0], dim=0)[0])
    assert loss[2] == 0
    accuracy = task.metrics(logits, {"position_target": target})["accuracy"]
    assert accuracy[1:].nan_to_num(-1).tolist() == [1, -1, 0]


def test_the_head_reads_both_patches_of_each_sample_in_order(tiny_encoder):
    head = PositionHead(tiny_encoder, 26)
    pairs = torch.randn(3, 2, 8)
    as_maps = pairs.flatten(0, 1)[..., None, None, None].expand(-1, -1, 2, 2, 2)
    torch.testing.assert_close(head([as_maps], {}), head.pair_head(pairs[:, 0], pairs[:, 1]))
    assert not torch.allclose(head.pair_head(pairs[:, 1], pairs[:, 0]), head([as_maps], {}))


@pytest.mark.parametrize("shuffled", [False, True])
def test_real_positions_can_be_learned_and_shuffled_ones_cannot(make_task, tiny_encoder, shuffled):
    """Along X the scan turns from flat to rippled, so a patch tells how far right it lies."""
    task = make_task(patch_size=4, axes=[0])
    mixture = PretextMixture([task], (4, 4, 4))
    model = PretextModel(tiny_encoder, mixture)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    x, y, _ = np.indices((16, 16, 16))
    scan = (x / 16 + (x > 7) * (y % 2)).astype(np.float32)[None]
    transform = task.make_transform().set_random_state(seed=0)
    losses = []
    for _ in range(30):
        batch = collate([transform({"image": scan}) for _ in range(16)], task.batch_keys)
        batch = mixture.shuffle_targets(batch) if shuffled else batch
        loss = mixture.total_loss(mixture.losses(model(batch), batch))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    learned = np.mean(losses[-10:])
    assert learned > 0.6 if shuffled else learned < 0.2


@pytest.fixture
def probe_pairs(make_blobs, make_task):
    """Accuracy of the task's own probe on pairs cut at random from one scan."""

    def probe(**changes) -> float:
        task = make_task(patch_size=8)
        transform = PositionPretextd("image", (8, 8, 8), **changes).set_random_state(seed=0)
        scan = make_blobs((48, 48, 48), smoothness=3.0)
        samples = [transform({"image": scan}) for _ in range(600)]
        report = task.trivial_cues(samples[:400], samples[400:])
        assert (report.metric, report.chance, report.higher_is_better) == (task.key_metric, 1 / 26, True)
        return report.trivial

    return probe


def test_patches_that_touch_give_the_answer_away_and_the_defaults_do_not(probe_pairs):
    assert probe_pairs(gap=0, jitter=0, normalise=False) > 0.2
    assert probe_pairs() < 0.1


def test_the_probe_leaves_out_scans_without_room(make_task, make_blobs):
    task = make_task(patch_size=6)
    transform = task.make_transform().set_random_state(seed=0)
    none = [transform({"image": make_blobs((8, 8, 8))})]
    some = [transform({"image": make_blobs((24, 24, 24))}) for _ in range(40)]
    assert np.isnan(task.trivial_cues(none, none).trivial)
    assert 0 <= task.trivial_cues(some[:30] + none, some[30:] + none).trivial <= 1


@pytest.mark.parametrize("is_right", [True, False])
def test_the_picture_outlines_both_patches_and_names_the_direction(make_task, make_blobs, is_right):
    task = make_task(patch_size=6)
    volume = make_blobs((30, 28, 26))
    target = task.pair.directions.index((-1, 0, 1))
    starts = np.array([[14, 8, 2], [3, 9, 13]])
    sample = task.make_transform().apply(volume, Placement(target, starts), key="image") | {"window": volume}
    predicted = target if is_right else task.pair.directions.index((1, 1, 0))
    figure = task.picture(sample, F.one_hot(torch.tensor([predicted]), 26).float())
    title = figure.get_suptitle()
    assert "left-superior" in title
    assert ("right-anterior" in title) != is_right
    assert ("\N{CHECK MARK}" if is_right else "\N{BALLOT X}") in title
    sagittal = figure.axes[0]
    assert [(box.get_x(), box.get_y()) for box in sagittal.patches] == [(7.5, 1.5), (8.5, 12.5)]
    np.testing.assert_array_equal(sagittal.images[0].get_array(), volume[0, 17].T)
    np.testing.assert_array_equal(figure.axes[3].images[0].get_array(), volume[0, 6].T)
    assert figure_to_rgb(figure).std() > 0


def test_the_picture_of_a_scan_without_room_says_so(make_task, make_blobs):
    task = make_task(patch_size=6)
    volume = make_blobs((8, 8, 8))
    sample = task.make_transform()({"image": volume}) | {"window": volume}
    assert "no room" in task.picture(sample, torch.zeros(1, 26)).get_suptitle()


def test_the_task_hands_its_plan_on(make_task):
    task = make_task(patch_size=[6, 6, 4], gap=3, jitter=1, axes=[2, 0])
    assert task.window_size == (16, 7, 12)
    assert task.facts() == {"classes": 8, "patch_size": "6 x 6 x 4", "gap": "3 x 3 x 3", "axes": "X, Z"}
    assert task.make_transform().pair == task.pair
    assert make_task(patch_size=6).pair.patch_size == (6, 6, 6)


@pytest.mark.parametrize(
    "values", [{"gap": -1}, {"axes": []}, {"axes": [3]}, {"patch_size": 0}, {"padding": 1}]
)
def test_settings_that_make_no_sense_are_refused(make_task, values):
    with pytest.raises(ConfigError, match=r"tasks\.position"):
        make_task(**values)
