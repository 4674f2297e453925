import numpy as np
import pytest
import torch

from medssl.config.finetune_schema import SpatialConfig
from medssl.finetune.geometry import flip_axes, make_transform

CUBE, ISOTROPIC = (20, 20, 20), (1.0, 1.0, 1.0)


@pytest.fixture
def scene():
    """A lopsided body, brighter where its label is, so that the two can be compared after any change."""
    label = np.zeros((1, *CUBE), np.int64)
    label[0, 3:9, 5:15, 7:17] = 1
    label[0, 9:12, 5:9, 7:12] = 2
    return {"image": label.astype(np.float32) / 2, "label": label}


def transformed(scene, seed, *, spatial, size=CUBE, spacing_mm=ISOTROPIC, class_names=()):
    transform = make_transform(
        ["image", "label"], crop_size=size, spacing_mm=spacing_mm, spatial=spatial, class_names=class_names
    )
    transform.set_random_state(seed=seed)
    sample = transform(dict(scene))
    return torch.as_tensor(sample["image"])[0], torch.as_tensor(sample["label"])[0]


ALWAYS = SpatialConfig(probability=1.0, rotate_degrees=30.0, flip_axes=("x", "y", "z"))


@pytest.mark.parametrize("seed", range(6))
def test_image_and_label_change_alike(scene, seed):
    image, label = transformed(scene, seed, spatial=ALWAYS)
    assert not np.array_equal(label.numpy(), scene["label"][0])
    assert set(label.unique().tolist()) <= {0.0, 1.0, 2.0}
    inside = (image * 2).round() == label  # apart from the rim, where the image is interpolated
    assert inside.float().mean() > 0.93


def test_misaligned_labels_would_be_seen(scene):
    """The control of the test above: the same comparison with the label of another seed."""
    image, _ = transformed(scene, 0, spatial=ALWAYS)
    _, label = transformed(scene, 3, spatial=ALWAYS)
    assert ((image * 2).round() == label).float().mean() < 0.9


def test_the_same_seed_gives_the_same_crop(scene):
    (one, _), (again, _), (other, _) = (transformed(scene, seed, spatial=ALWAYS) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def flips(scene, class_names):
    still = SpatialConfig(probability=0.0)
    images = [transformed(scene, seed, spatial=still, class_names=class_names)[0] for seed in range(12)]
    first = torch.as_tensor(scene["image"][0])
    kinds = [
        "none" if torch.equal(image, first) else "x" if torch.equal(image, first.flip(0)) else "other"
        for image in images
    ]
    return set(kinds)


def test_left_and_right_are_swapped_only_where_no_class_has_a_side(scene):
    assert flips(scene, ["background", "liver"]) == {"none", "x"}
    assert flips(scene, ["background", "left lung", "right lung"]) == {"none"}


@pytest.mark.parametrize(
    "name",
    ["left lung", "kidney_right", "Left-Amygdala", "hippocampus (L)", "ctx-lh-cuneus", "R", "LeftKidney"],
)
def test_names_with_a_side(name):
    assert flip_axes(SpatialConfig(), ["background", name]) == ()


@pytest.mark.parametrize("name", ["bright", "cleft", "lesion", "all", "anterior", "class 1", "upright"])
def test_names_without_a_side(name):
    assert flip_axes(SpatialConfig(), ["background", name]) == ("x",)


def test_flips_that_are_asked_for_win():
    assert flip_axes(SpatialConfig(flip_axes=("y",)), ["left lung"]) == ("y",)
    assert flip_axes(SpatialConfig(flip_axes=()), ["liver"]) == ()


def turned_planes(spacing_mm, size):
    """Return whether turns move what lies in one plane across z into others."""
    layers = np.broadcast_to(np.arange(size[2], dtype=np.float32), size)[np.newaxis].copy()
    scene = {"image": layers, "label": layers.astype(np.int64)}
    spatial = SpatialConfig(probability=1.0, scale=0.0, rotate_degrees=20.0, flip_axes=())
    images = [
        transformed(scene, seed, spatial=spatial, size=size, spacing_mm=spacing_mm)[0] for seed in range(5)
    ]
    return not all(np.allclose(image, layers[0], atol=1e-3) for image in images)


def test_thick_slices_and_thin_volumes_stay_in_their_plane():
    assert turned_planes((1.0, 1.0, 1.0), (16, 16, 16))
    assert not turned_planes((1.0, 1.0, 4.0), (16, 16, 16))
    assert not turned_planes((1.0, 1.0, 1.0), (16, 16, 6))


def test_thick_slices_are_turned_in_their_plane(scene):
    spatial = SpatialConfig(probability=1.0, scale=0.0, flip_axes=())
    image, label = transformed(scene, 1, spatial=spatial, spacing_mm=(1.0, 1.0, 5.0))
    assert not np.allclose(image, scene["image"][0])
    np.testing.assert_array_equal(label[:, :, 10] > 0, label[:, :, 11] > 0)


def test_what_is_too_short_is_padded_with_its_border(scene):
    small = {key: value[:, :10, :, 8:] for key, value in scene.items()}
    image, label = transformed(small, 0, spatial=SpatialConfig(probability=0.0, flip_axes=()))
    assert image.shape == label.shape == CUBE
    np.testing.assert_array_equal(image[5:15, :, 4:16], small["image"][0])
    np.testing.assert_array_equal(label[:5], label[5].expand(5, -1, -1))
