import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.metrics import compute_dice
from torch import nn

from medssl.finetune.model import FinetuneModel
from medssl.finetune.segmentation import LinearSegmentationHead, Segmentation, class_dice
from medssl.scans.case_crop import read_case_label, read_case_volume
from medssl.training.settings import StepSettings

GOAL = Segmentation({0: "background", 1: "ball"})
THREE = Segmentation({0: "background", 2: "anterior", 7: "posterior"})


def random_labels(*shape: int, classes: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(seed))


def test_the_linear_head_is_one_linear_layer_on_all_maps(small_encoder):
    head = LinearSegmentationHead(small_encoder, 3)
    image = torch.rand(2, 1, 16, 16, 8)
    features = small_encoder(image)
    maps = [F.interpolate(level, size=(16, 16, 8), mode="trilinear") for level in features]
    weight = torch.cat([probe.weight for probe in head.probes], dim=1)
    bias = torch.stack([probe.bias for probe in head.probes]).sum(0)
    expected = F.conv3d(torch.cat(maps, dim=1), weight, bias)
    torch.testing.assert_close(head(features, {"image": image}), expected, atol=1e-5, rtol=1e-5)


def test_the_loss_is_cross_entropy_and_soft_dice_of_each_crop():
    logits = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    label = random_labels(2, 1, 4, 5, 6)
    found = THREE.losses({"segmentation": logits}, {"label": label.float()})["segmentation"]
    for crop in range(2):
        probabilities = logits[crop].softmax(0)
        truth = F.one_hot(label[crop, 0], 3).movedim(-1, 0)
        cross_entropy = -(probabilities.log() * truth).sum(0).mean()
        overlap = [
            (2 * (p * t).sum() + 1e-5) / (p.sum() + t.sum() + 1e-5)
            for p, t in zip(probabilities[1:], truth[1:], strict=True)
        ]
        torch.testing.assert_close(found[crop], cross_entropy + 1 - torch.stack(overlap).mean())
    torch.testing.assert_close(THREE.total_loss({"segmentation": found}), found.mean())


def test_dice_of_classes_is_that_of_monai():
    prediction, truth = random_labels(4, 5, 5, 5), random_labels(4, 5, 5, 5, seed=1)
    prediction[0], truth[0] = prediction[0].clamp(max=1), truth[0].clamp(max=1)
    one_hot = [F.one_hot(labels, 3).movedim(-1, 1) for labels in (prediction, truth)]
    expected = compute_dice(*one_hot, include_background=False)
    torch.testing.assert_close(class_dice(prediction, truth, 3), expected, equal_nan=True)
    assert class_dice(prediction, truth, 3)[0, 1].isnan()


def test_windows_hold_channel_numbers_and_all_classes_alike(ball_cases):
    goal = Segmentation({0: "background", 1: "ball"}, foreground_share=1.0)
    for seed in range(4):
        window = goal.read(ball_cases[0], (8, 8, 8), np.random.default_rng(seed))
        assert window["image"].shape == window["label"].shape == (1, 8, 8, 8)
        assert window["label"].any()
    other = Segmentation({0: "background", 1: "ball", 4: "cube"})
    assert set(np.unique(other._to_channels(np.array([0, 1, 4, 9])))) == {0, 1, 2}


class Threshold(nn.Module):
    """Says class 1 above a brightness."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, batch):
        above = batch["image"] - self.threshold
        return {"segmentation": 20 * torch.cat([-above, above], dim=1)}


def test_whole_cases_are_predicted_and_measured(ball_cases):
    case = ball_cases[0]
    options = {"crop_size": (8, 8, 8), "settings": StepSettings("cpu"), "flips": True}
    probabilities = GOAL.predict(Threshold(0.5), case, **options)
    assert probabilities.shape == (2, *case.shape)
    expected = read_case_volume(case)[0] > 0.5
    np.testing.assert_array_equal(probabilities.argmax(0).numpy(), expected)
    truth = read_case_label(case) == 1
    dice = 2 * (expected & truth).sum() / (expected.sum() + truth.sum())
    values = GOAL.measure([(case, probabilities)])
    assert values == {
        "val/loss": pytest.approx(1 - dice),
        "val/segmentation/dice": pytest.approx(dice),
        "val/dice/ball": pytest.approx(dice),
    }


def test_a_class_that_no_case_has_does_not_count(ball_cases):
    goal = Segmentation({0: "background", 1: "ball", 4: "cube"})
    label = torch.from_numpy(read_case_label(ball_cases[0]).astype(np.int64))
    perfect = F.one_hot(label, 3).movedim(-1, 0).float()
    values = goal.measure([(ball_cases[0], perfect)])
    assert values["val/segmentation/dice"] == 1
    assert math.isnan(values["val/dice/cube"])


def test_every_encoder_level_reaches_the_prediction(small_encoder):
    model = FinetuneModel(small_encoder, THREE.make_head(small_encoder, is_linear=False), name=THREE.name)
    logits = model({"image": torch.rand(1, 1, 17, 16, 9)})["segmentation"]
    assert logits.shape == (1, 3, 17, 16, 9)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_description_makes_the_same_goal():
    description = THREE.describe()
    assert description.pop("name") == "segmentation"
    assert Segmentation.from_description(description).class_names == THREE.class_names
