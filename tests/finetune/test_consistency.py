from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from medssl.config.finetune_schema import UnlabelledConfig
from medssl.config.schema import AugmentationConfig
from medssl.finetune.consistency import (
    IS_LABELLED,
    TEACHER_IMAGE,
    MixedStream,
    TaughtSegmentation,
    augment_student,
)
from medssl.finetune.segmentation import Segmentation
from medssl.training.augment import IntensityAugmentation
from medssl.training.settings import StepSettings

GOAL = Segmentation({0: "background", 1: "ball"})


class Threshold(nn.Module):
    """Logits that are sure where the intensity is far from one half."""

    def __init__(self, sharpness: float) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(sharpness))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        foreground = self.sharpness * (batch["image"] - 0.5)
        return {GOAL.name: torch.cat([-foreground, foreground], dim=1)}


def make_taught(teacher: nn.Module, *, step: int = 99, **config: object) -> TaughtSegmentation:
    state = SimpleNamespace(
        best_weights=teacher, settings=StepSettings("cpu"), counters=SimpleNamespace(step=step)
    )
    return TaughtSegmentation(GOAL, state, UnlabelledConfig(**config), total_steps=100)


@pytest.fixture
def batch() -> dict[str, Tensor]:
    torch.manual_seed(0)
    image = torch.rand(4, 1, 6, 6, 6)
    return {
        "image": image,
        TEACHER_IMAGE: image,
        "label": (image > 0.5).float(),
        IS_LABELLED: torch.tensor([True, True, False, False]),
    }


@pytest.mark.parametrize("method", ["mean_teacher", "pseudo_labels"])
def test_labelled_crops_have_the_loss_of_the_goal_and_the_others_that_of_the_teacher(batch, method):
    student, teacher = Threshold(3.0), Threshold(20.0)
    losses = make_taught(teacher, method=method).losses(student(batch), batch)
    expected = GOAL.losses(student(batch), batch)[GOAL.name]
    torch.testing.assert_close(losses[GOAL.name][:2], expected[:2])
    assert losses[GOAL.name][2:].isnan().all()
    assert losses["unlabelled"][:2].isnan().all()
    assert (losses["unlabelled"][2:] > 0).all()


def test_labels_of_unlabelled_crops_make_no_difference(batch):
    student, taught = Threshold(3.0), make_taught(Threshold(20.0), method="mean_teacher")
    other = {**batch, "label": batch["label"].clone()}
    other["label"][2:] = 0
    totals = [taught.total_loss(taught.losses(student(each), each)) for each in (batch, other)]
    torch.testing.assert_close(*totals)


def test_a_student_that_agrees_with_its_teacher_has_nothing_to_learn_from_it(batch):
    student = Threshold(4.0)
    losses = make_taught(student, method="mean_teacher").losses(student(batch), batch)
    assert losses["unlabelled"][2:].tolist() == pytest.approx([0, 0])


def test_pseudo_labels_leave_out_what_the_teacher_is_not_sure_of(batch):
    student = Threshold(1.0)
    unsure = make_taught(Threshold(0.1), method="pseudo_labels", confidence=0.9)
    assert unsure.losses(student(batch), batch)["unlabelled"][2:].tolist() == [0, 0]


def test_the_teacher_gets_no_gradient_and_the_student_does(batch):
    student, teacher = Threshold(3.0), Threshold(20.0)
    taught = make_taught(teacher, method="mean_teacher")
    taught.total_loss(taught.losses(student(batch), batch)).backward()
    assert teacher.sharpness.grad is None
    assert student.sharpness.grad is not None
    assert student.sharpness.grad.isfinite()


def test_the_weight_of_unlabelled_crops_rises_with_the_steps(batch):
    student, teacher = Threshold(3.0), Threshold(20.0)

    def total(step: int) -> float:
        taught = make_taught(teacher, step=step, method="mean_teacher", weight=2.0, ramp_fraction=0.5)
        return taught.total_loss(taught.losses(student(batch), batch)).item()

    own = GOAL.losses(student(batch), batch)[GOAL.name][:2].mean().item()
    full = total(49) - own
    assert total(24) - own == pytest.approx(full / 2, rel=1e-4)
    assert total(99) - own == pytest.approx(full, rel=1e-4)


def test_the_teacher_sees_the_crop_without_intensity_changes(batch):
    batch["seed"] = torch.arange(4)
    augment = IntensityAugmentation(AugmentationConfig(shift=0.1), inputs=("image",), targets=())
    changed = augment_student(augment, batch)
    torch.testing.assert_close(changed[TEACHER_IMAGE], batch["image"])
    assert not torch.allclose(changed["image"], batch["image"])


class Numbers:
    """A stream whose batches tell their step."""

    def __init__(self, first: int, size: int) -> None:
        self.first, self.size = first, size

    def batches(self, start_step: int = 0):
        step = start_step
        while True:
            yield {"image": torch.full((self.size, 1), self.first + step), "seed": torch.zeros(self.size)}
            step += 1

    def scan_ids(self, step: int) -> list[str]:
        return [f"scan {self.first + step}"]


def test_a_mixed_batch_is_a_function_of_its_step():
    mixed = MixedStream(Numbers(0, 2), Numbers(100, 3))
    batches = mixed.batches(7)
    batch = next(batches)
    batches.close()
    assert batch["image"].flatten().tolist() == [7, 7, 107, 107, 107]
    assert batch[IS_LABELLED].tolist() == [True, True, False, False, False]
    assert mixed.scan_ids(7) == ["scan 7", "scan 107"]
