import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medssl.networks.build import build_encoder
from medssl.pretext.correspondence import TOO_CLOSE_VOXELS, CorrespondenceSettings, CorrespondenceTask
from medssl.pretext.correspondence_head import EMBEDDING, CorrespondencePrediction
from medssl.pretext.drawing import figure_to_rgb
from medssl.training.batch import collate

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


def predicted(embeddings: torch.Tensor, batch: dict) -> CorrespondencePrediction:
    return CorrespondencePrediction(embeddings, embeddings, batch["correspondence_places"], 0)


def perfect(batch: dict) -> CorrespondencePrediction:
    """Return embeddings that are equal for a point and its match alone."""
    points = batch["correspondence_places"].shape[1]
    return predicted(torch.eye(points)[None, None].repeat(1, 2, 1, 1), batch)


def test_loss_is_that_of_a_slow_loop_and_metrics_are_in_mm(make_task, make_points):
    task = make_task(points=8, temperature=0.5, apart_mm=4.0)
    batch = collate(make_points(task, 2), task.batch_keys)
    random = torch.Generator().manual_seed(0)
    embeddings = F.normalize(torch.randn(2, 2, 8, EMBEDDING, generator=random), dim=-1)
    places = batch["correspondence_places"]
    for scan in range(2):
        terms, off = [], []
        for point in range(8):
            for view in (0, 1):
                match, wrong = 0.0, []
                for other_scan in range(2):
                    for other in range(8):
                        distance = (places[other_scan, other] - places[scan, point]).norm()
                        similarity = (
                            embeddings[scan, view, point] @ embeddings[other_scan, 1 - view, other] / 0.5
                        )
                        if (other_scan, other) == (scan, point):
                            match = similarity
                        elif distance >= (TOO_CLOSE_VOXELS if other_scan == scan else 4.0):
                            wrong.append(similarity)
                terms.append(torch.logsumexp(torch.stack([match, *wrong]), 0) - match)
            found = (embeddings[scan, 1] @ embeddings[scan, 0, point]).argmax()
            off.append((places[scan, found] - places[scan, point]).norm())
        prediction = predicted(embeddings, batch)
        expected = float(torch.stack(terms).mean()), float(torch.stack(off).mean())
        assert task.loss(prediction, batch)[scan] == pytest.approx(expected[0], rel=1e-4)
        assert task.metrics(prediction, batch)["match_mm"][scan] == pytest.approx(expected[1], rel=1e-4)


def test_two_halves_of_a_batch_with_the_candidates_of_both_lose_what_the_whole_does(make_task, make_points):
    task = make_task(points=8)
    batch = collate(make_points(task, 4), task.batch_keys)
    embeddings = F.normalize(torch.randn(4, 2, 8, EMBEDDING), dim=-1)
    whole = task.loss(predicted(embeddings, batch), batch)
    for start in (0, 2):
        half = {key: value[start : start + 2] for key, value in batch.items()}
        own = CorrespondencePrediction(
            embeddings[start : start + 2], embeddings, batch["correspondence_places"], start
        )
        torch.testing.assert_close(task.loss(own, half), whole[start : start + 2])


def test_two_processes_have_the_loss_and_gradients_of_one(tmp_path: Path):
    script = Path(__file__).with_name("correspondence_gradients.py")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, words in (("one", []), ("two", launcher)):
        command = [sys.executable, *words, script, tmp_path / name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert max(float(gradient.abs().max()) for name, gradient in one.items() if name != "loss") > 1e-4
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-5, rtol=1e-3)


def test_places_are_seen_from_the_middle_of_the_scan(make_task, make_blobs):
    volume = make_blobs((20, 20, 20))
    transform = make_task().make_transform()
    whole = transform.set_random_state(0)({"image": volume})
    part = {"image": volume, "window_start": np.array([10, 0, 0]), "scan_shape": np.array([40, 20, 20])}
    moved = transform.set_random_state(0)(part)
    shift = moved["correspondence_places"] - whole["correspondence_places"]
    np.testing.assert_allclose(shift, np.broadcast_to([0.0, 0.0, 0.0], shift.shape), atol=1e-5)
    part["window_start"] = np.array([0, 0, 0])
    shift = transform.set_random_state(0)(part)["correspondence_places"] - whole["correspondence_places"]
    np.testing.assert_allclose(shift, np.broadcast_to([-10.0, 0.0, 0.0], shift.shape), atol=1e-5)


def test_a_perfect_match_costs_little_and_is_no_mm_off(make_task, make_points):
    task = make_task()
    batch = collate(make_points(task), task.batch_keys)
    prediction = perfect(batch)
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
    by_guessing = np.log(4 * task.settings.points)
    assert (np.mean(losses[-10:]) < 0.85 * by_guessing) == is_true


def test_every_parameter_of_the_head_is_trained(make_task, make_points, tiny_encoder):
    task = make_task()
    batch = collate(make_points(task), task.batch_keys)
    head = task.make_head(tiny_encoder)
    prediction = head(tiny_encoder(batch["correspondence_views"].flatten(0, 1)), batch)
    assert prediction.embeddings.shape == (1, 2, 32, EMBEDDING)
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
    figure = task.picture(sample, perfect(collate([sample], task.batch_keys)))
    assert "0.0 mm off" in figure.get_suptitle()
    assert figure_to_rgb(figure).std() > 0
