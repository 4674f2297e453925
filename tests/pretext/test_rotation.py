import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.transforms import Compose, EnsureChannelFirstd, ScaleIntensityd

from medssl.pretext.crop import CropOrPadd
from medssl.pretext.drawing import figure_to_rgb
from medssl.pretext.mixture import PretextMixture, PretextModel
from medssl.pretext.rotation import RotationHead, RotationPretextd, RotationSettings, RotationTask
from medssl.pretext.turns import TURNS, allowed_turns, apply_turn, describe_turn
from medssl.training.batch import collate


@pytest.fixture
def make_task(make_context):
    def make(**context) -> RotationTask:
        return RotationTask(RotationSettings(), make_context(**context))

    return make


@pytest.fixture
def volume(make_blobs):
    return make_blobs((16, 16, 16))


@pytest.mark.parametrize("index", range(24))
def test_applying_a_drawn_turn_is_exact(volume, index):
    made = RotationPretextd("image").apply(volume, index, key="image")
    np.testing.assert_array_equal(made["image"], apply_turn(volume, TURNS[index]))
    assert made["rotation_target"] == index
    assert made["rotation_target"].dtype == np.int64
    assert made["orientation"] == TURNS[index].orientation()


def test_the_same_seed_draws_the_same_turns(volume):
    def draws(seed):
        transform = RotationPretextd("image").set_random_state(seed=seed)
        return [int(transform({"image": volume})["rotation_target"]) for _ in range(10)]

    assert draws(1) == draws(1)
    assert draws(1) != draws(2)


def test_every_turn_is_drawn_about_as_often(volume):
    transform = RotationPretextd("image").set_random_state(seed=0)
    counts = np.bincount([transform.draw(volume.shape[1:]) for _ in range(2400)], minlength=24)
    assert counts.shape == (24,)
    assert counts.min() > 60
    assert counts.max() < 140


@pytest.mark.parametrize(("shape", "classes"), [((6, 6, 6), 24), ((6, 6, 4), 8), ((6, 5, 4), 4)])
def test_the_turns_follow_the_shape_and_keep_it(shape, classes):
    transform = RotationPretextd("image").set_random_state(seed=0)
    samples = [transform({"image": np.zeros((1, *shape))}) for _ in range(200)]
    assert {int(sample["rotation_target"]) for sample in samples} == set(range(classes))
    assert {sample["image"].shape for sample in samples} == {(1, *shape)}


def test_it_works_in_anyones_compose_on_image_and_label_alike(make_blobs):
    blobs = make_blobs((8, 8, 8))[0]
    transform = Compose(
        [
            EnsureChannelFirstd(["image", "label"], channel_dim="no_channel"),
            ScaleIntensityd("image"),
            RotationPretextd(["image", "label"]),
        ]
    ).set_random_state(seed=3)
    data = {"image": blobs * 100, "label": blobs > 0.5}
    for _ in range(5):
        sample = transform(data)
        turn = TURNS[int(sample["rotation_target"])]
        np.testing.assert_allclose(sample["image"], apply_turn(blobs[None], turn), atol=1e-6)
        np.testing.assert_array_equal(sample["label"], apply_turn(blobs[None] > 0.5, turn))


def test_the_input_is_left_as_it_was(volume):
    before = volume.copy()
    data = {"image": volume, "other": 1}
    assert RotationPretextd("image")(data)["other"] == 1
    np.testing.assert_array_equal(data["image"], before)
    assert set(data) == {"image", "other"}


@pytest.mark.parametrize(
    ("context", "classes"),
    [
        ({}, 24),
        ({"spacing_mm": (0.8, 0.8, 3.0)}, 8),
        ({"crop_size": (16, 16, 8)}, 8),
        ({"crop_size": (16, 12, 8)}, 4),
    ],
)
def test_the_classes_follow_crop_and_spacing(make_task, make_blobs, tiny_encoder, context, classes):
    task = make_task(**context)
    sample = task.make_transform()({"image": make_blobs(task.context.crop_size)})
    logits = task.make_head(tiny_encoder)(tiny_encoder(torch.from_numpy(sample["image"])[None]), {})
    assert logits.shape == (1, classes)
    assert task.facts() == {"classes": classes}
    assert task.turns == allowed_turns(task.context.crop_size, task.context.spacing_mm)
    assert task.window_size == task.context.crop_size


def test_the_head_looks_at_the_whole_crop(tiny_encoder):
    head = RotationHead(tiny_encoder, 24)
    coarsest = torch.randn(1, 8, 3, 4, 5, requires_grad=True)
    head([torch.zeros(1, 4, 6, 8, 10), coarsest], {}).square().sum().backward()
    assert coarsest.grad.abs().sum(dim=1).min() > 0


def test_loss_and_accuracy_of_each_sample(make_task):
    task = make_task()
    logits, target = torch.randn(6, 24), torch.arange(6)
    logits[2, 2] = 100
    logits[3, 0] = 100
    batch = {"rotation_target": target}
    loss = task.loss(logits, batch)
    by_hand = [-F.log_softmax(row, dim=0)[answer] for row, answer in zip(logits, target, strict=True)]
    torch.testing.assert_close(loss, torch.stack(by_hand))
    accuracy = task.metrics(logits, batch)["accuracy"]
    assert accuracy.shape == (6,)
    assert (accuracy[2], accuracy[3]) == (1, 0)


@pytest.mark.parametrize("shuffled", [False, True])
def test_real_turns_can_be_learned_and_shuffled_ones_cannot(make_task, tiny_encoder, shuffled):
    """A crop that grows brighter along each axis at another rate holds all there is to know."""
    task = make_task(crop_size=(6, 6, 6))
    mixture = PretextMixture([task], task.context.crop_size)
    model = PretextModel(tiny_encoder, mixture)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    x, y, z = np.indices((6, 6, 6)) / 6
    transform = task.make_transform().set_random_state(seed=0)
    losses = []
    for _ in range(100):
        samples = [transform({"image": (x + 2 * y + 4 * z)[None]}) for _ in range(16)]
        batch = collate(samples, task.batch_keys)
        batch = mixture.shuffle_targets(batch) if shuffled else batch
        loss = mixture.total_loss(mixture.losses(model(batch), batch))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    learned = np.mean(losses[-10:])
    assert learned > 2.8 if shuffled else learned < 2.0


@pytest.fixture
def make_samples(make_task, make_blobs):
    """Make samples of crops of 12 voxels, cut at random or always from the same place, out of one scan."""

    def make(count: int, *, aligned: bool) -> tuple[RotationTask, list[dict]]:
        task = make_task(crop_size=(12, 12, 12))
        scan = make_blobs((40, 40, 40))
        source = scan[:, :12, :12, :12] if aligned else scan
        transform = Compose([CropOrPadd("image", (12, 12, 12)), task.make_transform()])
        transform.set_random_state(seed=0)
        return task, [transform({"image": source}) for _ in range(count)]

    return make


def test_the_trivial_cues_find_aligned_crops_out_and_not_crops_from_anywhere(make_samples):
    task, aligned = make_samples(300, aligned=True)
    report = task.trivial_cues(aligned[:200], aligned[200:])
    assert report.trivial == 1
    assert (report.metric, report.chance, report.higher_is_better) == (task.key_metric, 1 / 24, True)

    task, anywhere = make_samples(300, aligned=False)
    assert task.trivial_cues(anywhere[:200], anywhere[200:]).trivial < 0.2


@pytest.mark.parametrize("is_right", [True, False])
def test_the_picture_tells_truth_and_prediction_and_turns_the_crop_back(make_task, volume, is_right):
    task = make_task(spacing_mm=(1.0, 1.0, 3.0))
    target = 5
    sample = task.make_transform().apply(volume, target, key="image")
    predicted = target if is_right else 2
    figure = task.picture(sample, F.one_hot(torch.tensor([predicted]), 8).float())
    as_seen, turned_back = figure.subfigs
    assert describe_turn(task.turns[target]) in as_seen.get_suptitle()
    assert describe_turn(task.turns[predicted]) in turned_back.get_suptitle()
    assert ("\N{CHECK MARK}" if is_right else "\N{BALLOT X}") in turned_back.get_suptitle()
    shown = turned_back.axes[0].images[0].get_array()
    upright = volume[0, 8].T
    assert np.array_equal(shown, upright) == is_right
    letters = [text.get_text() for text in turned_back.axes[0].texts]
    assert (letters == ["A", "P", "S", "I"]) == is_right
    assert figure_to_rgb(figure).std() > 0
