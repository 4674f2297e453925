import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medssl.networks.build import build_encoder
from medssl.pretext.correspondence import (
    EMBEDDING,
    TOO_CLOSE_VOXELS,
    CorrespondenceSettings,
    CorrespondenceTask,
)
from medssl.pretext.drawing import figure_to_rgb
from medssl.pretext.mixture import collate

CUBE = (12, 12, 12)


@pytest.fixture
def make_task(make_context):
    def make(*, points=32, crop_size=CUBE, spacing_mm=(1.0, 1.0, 1.0), **settings) -> CorrespondenceTask:
        context = make_context(crop_size=crop_size, spacing_mm=spacing_mm)
        return CorrespondenceTask(CorrespondenceSettings(points=points, **settings), context)

    return make


@pytest.fixture
def make_points(make_blobs):
    def make(task: CorrespondenceTask, count: int = 1, shape=(20, 20, 20)) -> list[dict]:
        transform = task.make_transform().set_random_state(0)
        return [transform({"image": make_blobs(shape, seed)}) for seed in range(count)]

    return make


def test_points_show_the_same_intensities_in_both_views(make_task, make_points):
    (sample,) = make_points(make_task(gamma=0.0))
    shown = [
        F.grid_sample(
            torch.from_numpy(sample["correspondence_views"][number])[None],
            torch.from_numpy(sample[key])[None, None, None],
            align_corners=True,
        ).flatten()
        for number, key in enumerate(("correspondence_first", "correspondence_second"))
    ]
    assert torch.corrcoef(torch.stack(shown))[0, 1] > 0.95  # the second view is interpolated twice


def test_the_same_random_state_gives_the_same_views(make_task, make_points):
    one, other = make_points(make_task())[0], make_points(make_task())[0]
    for key in CorrespondenceTask.batch_keys:
        np.testing.assert_array_equal(one[key], other[key])


def perfect(places: torch.Tensor) -> torch.Tensor:
    """Return embeddings that are equal for a point and its match alone: ``(1, 2, N, N)``."""
    return torch.eye(places.shape[1])[None, None].repeat(1, 2, 1, 1)


def test_loss_is_that_of_a_slow_loop_and_metrics_are_in_mm(make_task, make_points):
    task = make_task(points=8, temperature=0.5)
    batch = collate(make_points(task, 2), task.batch_keys)
    prediction = F.normalize(
        torch.randn(2, 2, 8, EMBEDDING, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    for number in range(2):
        places, (first, second) = batch["correspondence_places"][number], prediction[number]
        terms, off = [], []
        for point in range(8):
            apart = (places - places[point]).norm(dim=1) >= TOO_CLOSE_VOXELS
            apart[point] = True
            there, back = first[point] @ second.T, first @ second[point]
            terms += [torch.logsumexp(one[apart] / 0.5, 0) - one[point] / 0.5 for one in (there, back)]
            off.append((places[there.argmax()] - places[point]).norm())
        expected = float(torch.stack(terms).mean()), float(torch.stack(off).mean())
        assert task.loss(prediction, batch)[number] == pytest.approx(expected[0], rel=1e-4)
        assert task.metrics(prediction, batch)["match_mm"][number] == pytest.approx(expected[1], rel=1e-4)


def test_a_perfect_match_costs_little_and_is_no_mm_off(make_task, make_points):
    task = make_task()
    batch = collate(make_points(task), task.batch_keys)
    prediction = perfect(batch["correspondence_places"])
    assert task.loss(prediction, batch).item() < 0.01
    assert task.metrics(prediction, batch)["match_mm"].item() == 0


@pytest.mark.parametrize("is_true", [True, False])
def test_a_network_learns_to_match_but_not_from_shuffled_points(make_task, make_points, is_true):
    torch.manual_seed(0)
    task = make_task(gamma=0.0)
    encoder = build_encoder("residual_unet", "tiny", crop_size=CUBE, spacing_mm=(1, 1, 1))
    head = task.make_head(encoder)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=4e-3)
    samples = make_points(task, 48)
    losses = []
    for step in range(60):
        batch = collate([samples[(4 * step + number) % 48] for number in range(4)], task.batch_keys)
        if not is_true:
            batch["correspondence_second"] = batch["correspondence_second"].roll(1, dims=0)
        prediction = head(encoder(batch["correspondence_views"].flatten(0, 1)), batch)
        optimiser.zero_grad()
        task.loss(prediction, batch).mean().backward()
        optimiser.step()
        losses.append(task.loss(prediction, batch).mean().item())
    by_guessing = np.log(task.settings.points)
    assert (np.mean(losses[-10:]) < 0.85 * by_guessing) == is_true


def test_every_parameter_of_the_head_is_trained(make_task, make_points, tiny_encoder):
    task = make_task()
    batch = collate(make_points(task), task.batch_keys)
    head = task.make_head(tiny_encoder)
    prediction = head(tiny_encoder(batch["correspondence_views"].flatten(0, 1)), batch)
    assert prediction.shape == (1, 2, 32, EMBEDDING)
    task.loss(prediction, batch).mean().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_thick_slices_are_turned_in_their_plane_only(make_task):
    views = make_task(crop_size=(12, 12, 4), spacing_mm=(1.0, 1.0, 5.0)).make_transform().views
    assert views.rotate_degrees == (0.0, 0.0, 20.0)


def test_trivial_cues_match_by_place_and_better_by_brightness_too(make_task, make_points):
    task = make_task()
    transform = task.make_transform().set_random_state(0)
    flat = [transform({"image": np.full((1, 20, 20, 20), 0.5, np.float32)}) for _ in range(6)]
    by_place = task.trivial_cues(flat, flat)
    told = task.trivial_cues(make_points(task, 6), make_points(task, 6))
    assert told.trivial < 0.9 * by_place.trivial
    assert by_place.trivial < 0.7 * by_place.chance


def test_the_picture_says_how_far_off_the_guess_is(make_task, make_points):
    task = make_task()
    (sample,) = make_points(task)
    figure = task.picture(sample, perfect(torch.from_numpy(sample["correspondence_places"])[None]))
    assert "0.0 mm off" in figure.get_suptitle()
    assert figure_to_rgb(figure).std() > 0
