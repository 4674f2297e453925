import copy
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from medssl.errors import ConfigError
from medssl.pretext.inpainting import InpaintingSettings, InpaintingTask
from medssl.pretext.mixture import PretextMixture, PretextModel
from medssl.pretext.registry import build_tasks, task_names
from medssl.pretext.task import CueReport, PretextTask, PretextTransform, TaskHead, TaskSettings
from medssl.training.batch import collate


class MirrorPretextd(PretextTransform):
    """Mirrors X, or not."""

    def draw(self, shape):
        return bool(self.R.randint(2))

    def apply(self, volume, parameters, *, key):
        mirrored = volume[:, ::-1] if parameters else volume
        return {key: mirrored, "mirror_target": np.int64(parameters)}


class CornersPretextd(PretextTransform):
    """Two views from opposite corners of the window, in one order or the other."""

    def draw(self, shape):
        return int(self.R.randint(2))

    def apply(self, volume, parameters, *, key):
        corners = [volume[:, :6, :6, :6], volume[:, -6:, -6:, -6:]]
        return {"views": np.stack(corners[:: 1 - 2 * parameters]), "corner_target": parameters}


class MeanHead(TaskHead):
    def __init__(self, channels):
        super().__init__()
        self.linear = nn.Linear(channels, 2)

    def forward(self, features, batch):
        return self.linear(features[-1].mean(dim=(2, 3, 4)))


class StandInTask(PretextTask[TaskSettings]):
    Settings = TaskSettings
    key_metric = "accuracy"

    def make_head(self, encoder):
        return MeanHead(encoder.channels[-1])

    def loss(self, prediction, batch):
        target = batch[self.target_keys[0]]
        return nn.functional.cross_entropy(prediction[: len(target)], target, reduction="none")

    def metrics(self, prediction, batch):
        target = batch[self.target_keys[0]]
        return {"accuracy": (prediction[: len(target)].argmax(dim=1) == target).float()}

    def trivial_cues(self, train, val):
        return CueReport("accuracy", 0.5, 0.5, True, "none")

    def picture(self, sample, prediction):
        raise NotImplementedError


class MirrorTask(StandInTask):
    name = "mirror"
    target_keys = ("mirror_target",)
    batch_keys = ("image", "mirror_target")

    @property
    def window_size(self):
        return self.context.crop_size

    def make_transform(self):
        return MirrorPretextd("image")


class CornersTask(StandInTask):
    name = "corners"
    input_key = "views"
    acts_on_window = True
    target_keys = ("corner_target",)
    batch_keys = ("views", "corner_target")

    @property
    def window_size(self):
        return (24, 12, 20)

    def make_transform(self):
        return CornersPretextd("image")


@pytest.fixture
def make_mixture(make_context):
    def make(*, weights=(1.0, 1.0, 1.0), names=("inpainting", "corners", "mirror")) -> PretextMixture:
        classes = {"inpainting": InpaintingTask, "corners": CornersTask, "mirror": MirrorTask}
        tasks = []
        for name, weight in zip(names, weights, strict=False):
            settings = InpaintingSettings if name == "inpainting" else TaskSettings
            tasks.append(classes[name](settings(weight=weight), make_context()))
        return PretextMixture(tasks, (16, 16, 16))

    return make


@pytest.fixture
def make_batch(make_blobs):
    def make(mixture: PretextMixture, count: int = 4) -> dict[str, torch.Tensor]:
        transform = mixture.make_transform()
        samples = [
            transform.set_random_state(seed)({"image": make_blobs((24, 20, 22), seed)})
            for seed in range(count)
        ]
        return collate(samples, mixture.batch_keys)

    return make


class TestTransform:
    def test_window_has_room_for_the_crop_and_every_task(self, make_mixture):
        assert make_mixture().window_size == (24, 16, 20)

    def test_window_tasks_see_the_window_and_the_others_the_crop(self, make_mixture, make_blobs):
        window = make_blobs((24, 20, 22))
        sample = make_mixture().make_transform().set_random_state(0)({"image": window})
        assert np.array_equal(sample["window"], window)
        views = [view.tobytes() for view in sample["views"]]
        assert window[:, :6, :6, :6].tobytes() in views
        assert sample["image"].shape == (1, 16, 16, 16)

    def test_voxels_are_moved_before_they_are_hidden(self, make_mixture, make_blobs):
        transform = make_mixture().make_transform()
        targets = set()
        for seed in range(8):
            sample = transform.set_random_state(seed)({"image": make_blobs((24, 20, 22))})
            targets.add(int(sample["mirror_target"]))
            visible = ~sample["inpainting_mask"]
            assert np.array_equal(sample["image"][visible], sample["inpainting_target"][visible])
        assert targets == {0, 1}

    def test_one_seed_decides_everything_in_any_thread(self, make_mixture, make_blobs):
        mixture = make_mixture()
        transform = mixture.make_transform()
        window = make_blobs((24, 20, 22))

        def transformed(seed: int) -> dict[str, torch.Tensor]:
            own = copy.deepcopy(transform).set_random_state(seed)
            return collate([own({"image": window})], mixture.batch_keys)

        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(transformed, range(12)))
        for seed, batch in enumerate(together):
            expected = collate([transform.set_random_state(seed)({"image": window})], mixture.batch_keys)
            assert all(torch.equal(batch[key], expected[key]) for key in mixture.batch_keys)
        assert not torch.equal(together[0]["image"], together[1]["image"])


class TestLosses:
    def test_total_is_the_weighted_mean(self, make_mixture):
        mixture = make_mixture(weights=(1.0, 0.0, 3.0))
        losses = {
            "inpainting": torch.tensor([1.0, 3.0]),
            "corners": torch.tensor([50.0, 50.0]),
            "mirror": torch.tensor([4.0, 8.0]),
        }
        assert mixture.total_loss(losses).item() == pytest.approx((1 * 2 + 3 * 6) / 4)

    def test_losses_and_metrics_are_per_sample_and_named(self, make_mixture, make_batch, tiny_encoder):
        mixture = make_mixture()
        batch = make_batch(mixture)
        predictions = PretextModel(tiny_encoder, mixture)(batch)
        losses, metrics = mixture.losses(predictions, batch), mixture.metrics(predictions, batch)
        assert {name: tuple(loss.shape) for name, loss in losses.items()} == dict.fromkeys(
            ("inpainting", "corners", "mirror"), (4,)
        )
        assert set(metrics) == {
            "inpainting/mae",
            "inpainting/psnr",
            "inpainting/ssim",
            "corners/accuracy",
            "mirror/accuracy",
        }
        assert all(values.shape == (4,) for values in metrics.values())

    def test_shuffling_gives_every_sample_another_ones_answer(self, make_mixture, make_batch):
        mixture = make_mixture()
        batch = make_batch(mixture)
        shuffled = mixture.shuffle_targets(batch)
        for key in ("inpainting_target", "mirror_target", "corner_target"):
            assert torch.equal(shuffled[key][1:], batch[key][:-1])
            assert torch.equal(shuffled[key][0], batch[key][-1])
        for key in ("image", "inpainting_mask", "views"):
            assert torch.equal(shuffled[key], batch[key])

    def test_one_sample_cannot_be_shuffled(self, make_mixture, make_batch):
        mixture = make_mixture()
        with pytest.raises(ConfigError, match="two crops or more"):
            mixture.shuffle_targets(make_batch(mixture, count=1))


class TestModel:
    def test_tasks_of_one_input_share_a_forward_pass(self, make_mixture, make_batch, tiny_encoder):
        mixture = make_mixture()
        batch = make_batch(mixture)
        PretextModel(tiny_encoder, mixture)(batch)
        assert sorted(tiny_encoder.calls) == [(4, 1, 16, 16, 16), (8, 1, 6, 6, 6)]

    def test_gradient_reaches_the_encoder_and_each_head_from_its_own_loss_only(
        self, make_mixture, make_batch, tiny_encoder
    ):
        mixture = make_mixture(names=("inpainting", "mirror"))
        model = PretextModel(tiny_encoder, mixture)
        batch = make_batch(mixture)
        mixture.losses(model(batch), batch)["mirror"].sum().backward()
        has_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert {name.split(".")[0] for name in has_gradient} == {"encoder", "heads"}
        assert all(name.startswith(("encoder.", "heads.mirror.")) for name in has_gradient)

    def test_the_state_dict_keeps_encoder_and_heads_apart(self, make_mixture, tiny_encoder):
        state = PretextModel(tiny_encoder, make_mixture()).state_dict()
        assert {name.split(".")[0] for name in state} == {"encoder", "heads"}
        assert {name.split(".")[1] for name in state if name.startswith("heads")} == {
            "inpainting",
            "corners",
            "mirror",
        }


@pytest.mark.parametrize("size", [(40, 40, 40), (12, 30, 40)])
@pytest.mark.parametrize(
    "names", [[name] for name in task_names()] + [["rotation", "inpainting", "position"]]
)
def test_stored_voxels_make_the_same_batch_as_widened_ones(names, size, make_context, make_blobs):
    tasks = build_tasks({name: {} for name in names}, make_context(scan_shapes=(size,)))
    mixture = PretextMixture(tasks, (16, 16, 16))
    transform = mixture.make_transform()
    stored = make_blobs(size).astype(np.float16)

    def batch(voxels):
        place = {"window_start": np.zeros(3, dtype=int), "scan_shape": np.array(size)}
        samples = [transform.set_random_state(seed)({"image": voxels, **place}) for seed in range(4)]
        return collate(samples, mixture.batch_keys)

    fast, plain = batch(stored), batch(stored.astype(np.float32))
    if "inpainting" in names:  # the mean that fills hidden voxels is rounded to the volume's type
        torch.testing.assert_close(fast["image"], plain["image"], rtol=2**-11, atol=0)
        plain["image"] = torch.where(plain["inpainting_mask"], fast["image"], plain["image"])
    assert all(torch.equal(fast[key], plain[key]) for key in mixture.batch_keys)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("size", [(40, 40, 40), (16, 16, 16), (12, 30, 40)])
def test_no_task_writes_to_the_window(size, dtype, make_context, make_blobs):
    tasks = build_tasks({name: {} for name in task_names()}, make_context(scan_shapes=(size,)))
    transform = PretextMixture(tasks, (16, 16, 16)).make_transform()
    window = make_blobs(size).astype(dtype)
    before = window.copy()
    place = {"window_start": np.zeros(3, dtype=int), "scan_shape": np.array(size)}
    result = transform.set_random_state(0)({"image": window, **place})
    assert np.array_equal(result["window"], before)
    assert np.array_equal(window, before)


@pytest.mark.parametrize("name", task_names())
def test_the_probe_of_trivial_cues_keeps_no_samples(name, make_context, make_blobs):
    size = (24, 24, 24)
    mixture = PretextMixture(build_tasks({name: {}}, make_context(scan_shapes=(size,))), (16, 16, 16))
    transform = mixture.make_transform()
    place = {"window_start": np.zeros(3, dtype=int), "scan_shape": np.array(size)}
    drawn: list[weakref.ref] = []
    most_alive = 0

    def draw(count):
        nonlocal most_alive
        for _ in range(count):
            window = make_blobs(size).copy()
            drawn.append(weakref.ref(window))
            most_alive = max(most_alive, sum(reference() is not None for reference in drawn))
            yield transform.set_random_state(len(drawn))({"image": window, **place})

    mixture.tasks[0].trivial_cues(draw(12), draw(6))
    assert len(drawn) == 18
    assert most_alive <= 2
