import copy

import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandFlipd

from medssl.errors import ConfigError
from medssl.pretext.drawing import figure_to_rgb
from medssl.pretext.inpainting import InpaintingPretextd
from medssl.pretext.inpainting_head import InpaintingPrediction
from medssl.pretext.mixture import PretextMixture, PretextModel
from medssl.training.batch import collate


class TestTransform:
    def test_hidden_voxels_hold_the_mean_of_the_visible_ones(self, make_blobs):
        volume = np.concatenate([make_blobs((12, 12, 12)), 10 + make_blobs((12, 12, 12), seed=1)])
        result = InpaintingPretextd("image").set_random_state(0)({"image": volume})
        (mask,) = result["inpainting_mask"]
        for channel, original in zip(result["image"], volume, strict=True):
            assert np.array_equal(channel[~mask], original[~mask])
            assert np.ptp(channel[mask]) == 0
            assert channel[mask][0] == pytest.approx(original[~mask].mean(), rel=1e-6)
        assert np.array_equal(result["inpainting_target"], volume)
        assert result["image"].dtype == np.float32

    def test_the_same_seed_hides_the_same_voxels_also_in_a_copy(self, make_blobs):
        transform = InpaintingPretextd("image")
        twin = copy.deepcopy(transform)
        sample = {"image": make_blobs((12, 12, 12))}
        first = transform.set_random_state(1)(sample)["inpainting_mask"]
        assert np.array_equal(first, twin.set_random_state(1)(sample)["inpainting_mask"])
        assert not np.array_equal(first, twin.set_random_state(2)(sample)["inpainting_mask"])

    def test_applying_is_apart_from_drawing(self, make_blobs):
        transform = InpaintingPretextd("image").set_random_state(0)
        volume = make_blobs((12, 12, 12))
        mask = transform.draw(volume.shape[1:])
        result = transform.apply(volume, mask, key="image")
        assert np.array_equal(result["inpainting_mask"], mask[None])
        assert np.array_equal(volume, make_blobs((12, 12, 12)))

    @pytest.mark.parametrize("shape", ["cubes", "slabs", "hole"])
    def test_it_works_in_a_compose_of_monai(self, make_blobs, shape):
        pipeline = Compose([RandFlipd("image", prob=0.5), InpaintingPretextd("image", shape=shape)])
        pipeline.set_random_state(0)
        result = pipeline({"image": make_blobs((12, 12, 12)), "subject_id": "a"})
        assert result["subject_id"] == "a"
        assert 0.4 < result["inpainting_mask"].mean() < 0.8


class TestSettings:
    @pytest.mark.parametrize(("side", "patch_size"), [(24, 4), (16, 3), (96, 16), (4, 1)])
    def test_automatic_cells_are_a_sixth_of_the_crop(self, make_inpainting, side, patch_size):
        task = make_inpainting(crop_size=(side, 2 * side, side))
        assert task.facts() == {"patch_size": patch_size}
        assert task.make_transform().patch_size == patch_size

    def test_too_large_a_cell_is_refused_before_anything_is_read(self, make_inpainting):
        with pytest.raises(ConfigError, match="use at most 8"):
            make_inpainting(patch_size=16)

    def test_a_crop_too_thin_for_the_discriminator_is_refused(self, make_inpainting):
        with pytest.raises(ConfigError, match="at least 16"):
            make_inpainting(crop_size=(32, 32, 8), adversarial_weight=0.001)


class TestLossAndMetrics:
    @pytest.mark.parametrize(("loss", "power"), [("l1", 1), ("l2", 2)])
    def test_loss_is_the_mean_error_of_each_sample_over_hidden_voxels(
        self, make_inpainting, make_batch, loss, power
    ):
        task = make_inpainting(loss=loss)
        batch = make_batch(task)
        volume = torch.zeros_like(batch["inpainting_target"])
        expected = [
            (target[mask] ** power).mean()
            for target, mask in zip(batch["inpainting_target"], batch["inpainting_mask"], strict=True)
        ]
        torch.testing.assert_close(task.loss(InpaintingPrediction(volume), batch), torch.stack(expected))

    def test_gradient_reaches_hidden_voxels_only(self, make_inpainting, make_batch):
        task = make_inpainting()
        batch = make_batch(task)
        volume = torch.full_like(batch["inpainting_target"], 2.0, requires_grad=True)
        task.loss(InpaintingPrediction(volume), batch).sum().backward()
        assert torch.equal(volume.grad != 0, batch["inpainting_mask"])

    def test_metrics_do_not_look_at_visible_voxels(self, make_inpainting, make_batch):
        task = make_inpainting()
        batch = make_batch(task)
        guess = torch.full_like(batch["inpainting_target"], 0.5)
        wild = torch.where(batch["inpainting_mask"], guess, 99.0)
        metrics, same = (task.metrics(InpaintingPrediction(volume), batch) for volume in (guess, wild))
        assert {name: tuple(values.shape) for name, values in metrics.items()} == {
            "mae": (2,),
            "psnr": (2,),
            "ssim": (2,),
        }
        for name in metrics:
            assert torch.equal(metrics[name], same[name])

    def test_a_perfect_prediction_has_perfect_metrics(self, make_inpainting, make_batch):
        task = make_inpainting()
        batch = make_batch(task)
        metrics = task.metrics(InpaintingPrediction(batch["inpainting_target"]), batch)
        assert metrics["mae"].tolist() == [0, 0]
        assert metrics["psnr"].min() == 100
        assert metrics["ssim"].numpy() == pytest.approx([1, 1], abs=1e-4)

    @pytest.mark.parametrize("are_shuffled", [False, True])
    def test_new_crops_are_rebuilt_better_than_by_guessing_unless_targets_are_shuffled(
        self, make_inpainting, make_samples, tiny_encoder, are_shuffled
    ):
        task = make_inpainting()
        mixture = PretextMixture([task], task.context.crop_size)
        samples = make_samples(task, 40)
        report = task.trivial_cues(samples[:32], samples[32:])
        model = PretextModel(tiny_encoder, mixture)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
        for step in range(40):
            batch = collate(samples[4 * step % 32 :][:4], task.batch_keys)
            batch = mixture.shuffle_targets(batch) if are_shuffled else batch
            loss = mixture.total_loss(mixture.losses(model(batch), batch))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        batch = collate(samples[32:], task.batch_keys)
        mae = mixture.metrics(model(batch), batch)["inpainting/mae"].mean()
        assert (mae > 0.97 * report.chance) if are_shuffled else (mae < 0.9 * report.chance), (
            mae / report.chance
        )

    def test_bfloat16_autocast(self, make_inpainting, make_batch, tiny_encoder):
        task = make_inpainting(adversarial_weight=0.1)
        batch = make_batch(task)
        head = task.make_head(tiny_encoder)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            prediction = head(tiny_encoder(batch["image"]), batch)
            loss = task.loss(prediction, batch)
            metrics = task.metrics(prediction, batch)
        assert prediction.real_logits.dtype == torch.bfloat16
        assert loss.dtype == metrics["ssim"].dtype == torch.float32
        loss.mean().backward()
        assert tiny_encoder.fine.weight.grad.isfinite().all()


class TestTrivialCues:
    def test_smooth_volumes_give_much_away_and_noise_nothing(self, make_inpainting, make_samples):
        task = make_inpainting()
        smooth, noise = (make_samples(task, 6, smoothness) for smoothness in (3.0, 0.0))
        report = task.trivial_cues(smooth[:3], smooth[3:])
        assert (report.metric, report.higher_is_better) == ("mae", False)
        assert report.trivial < 0.5 * report.chance
        report = task.trivial_cues(noise[:3], noise[3:])
        assert report.trivial > 0.95 * report.chance

    def test_chance_is_the_error_of_the_visible_mean(self, make_inpainting, make_samples):
        task = make_inpainting()
        samples = make_samples(task, 2)
        expected = []
        for sample in samples:
            volume, mask = sample["inpainting_target"], sample["inpainting_mask"]
            expected.append(np.abs(volume[mask] - volume[~mask].mean()).mean())
        assert task.trivial_cues(samples, samples).chance == pytest.approx(np.mean(expected), rel=1e-5)

    def test_widths_are_equal_in_millimetres(self, make_inpainting, make_samples, monkeypatch):
        seen = []
        monkeypatch.setattr(
            "medssl.pretext.inpainting.interpolate_visible",
            lambda volume, mask, sigma: seen.append(sigma) or volume,
        )
        task = make_inpainting(spacing_mm=(2.0, 2.0, 6.0))
        samples = make_samples(task, 1)
        task.trivial_cues(samples, samples)
        assert all(sigma * (2, 2, 6) == pytest.approx(sigma[0] * 2) for sigma in seen)


def test_picture_shows_the_truth_where_it_was_visible(make_inpainting, make_samples):
    task = make_inpainting()
    (sample,) = make_samples(task, 1)
    target, mask = sample["inpainting_target"][0], sample["inpainting_mask"][0]
    prediction = InpaintingPrediction(torch.full((1, 1, 16, 16, 16), 0.25))
    figure = task.picture(sample, prediction)
    rgb = figure_to_rgb(figure)
    assert rgb.shape == (600, 840, 3)
    titles = [panel.get_title() for panel in figure.axes[:4]]
    assert titles[0] == "input"
    assert titles[1] == f"{mask.mean():.0%} hidden"
    rebuilt, error = (np.asarray(panel.images[0].get_array()) for panel in figure.axes[2:4])
    hidden = mask[8].T
    assert np.array_equal(rebuilt[~hidden], target[8].T[~hidden])
    assert (rebuilt[hidden] == 0.25).all()
    assert (error[~hidden] == 0).all()


def test_picture_of_a_turned_crop_names_its_true_sides(make_inpainting, make_samples):
    task = make_inpainting()
    (sample,) = make_samples(task, 1)
    prediction = InpaintingPrediction(torch.zeros(1, 1, 16, 16, 16))
    figure = task.picture({**sample, "orientation": "PSL"}, prediction)
    assert [text.get_text() for text in figure.axes[0].texts] == ["S", "I", "L", "R"]
