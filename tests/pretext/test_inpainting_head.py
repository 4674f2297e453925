import numpy as np
import pytest
import torch

from medssl.pretext.inpainting_head import InpaintingPrediction, discriminator_loss, fill_hidden


def predict(encoder, head, batch) -> InpaintingPrediction:
    return head(encoder(batch["image"]), batch)


def test_a_brighter_crop_gives_a_brighter_prediction(make_inpainting, make_batch, tiny_encoder):
    task = make_inpainting()
    batch = make_batch(task)
    head = task.make_head(tiny_encoder)
    features = tiny_encoder(batch["image"])
    brighter = {**batch, "image": batch["image"] + 0.5}
    difference = head(features, brighter).volume - head(features, batch).volume
    torch.testing.assert_close(difference, torch.full_like(difference, 0.5))


def test_the_answer_is_not_looked_at(make_inpainting, make_batch, tiny_encoder):
    task = make_inpainting()
    batch = make_batch(task)
    head = task.make_head(tiny_encoder).eval()
    blind = {**batch, "inpainting_target": torch.zeros_like(batch["inpainting_target"])}
    volumes = [predict(tiny_encoder, head, one).volume for one in (batch, blind)]
    assert torch.equal(*volumes)


class TestAdversarial:
    @pytest.fixture
    def game(self, make_inpainting, make_batch, tiny_encoder):
        """A step of plain gradient descent on some parameters, on the adversarial term alone."""
        task = make_inpainting(adversarial_weight=1.0)
        batch = make_batch(task)
        head = task.make_head(tiny_encoder)

        def adversarial_loss() -> torch.Tensor:
            prediction = predict(tiny_encoder, head, batch)
            return discriminator_loss(prediction.real_logits, prediction.fake_logits).mean()

        def step(parameters: list[torch.nn.Parameter]) -> tuple[float, float]:
            before = adversarial_loss()
            gradients = torch.autograd.grad(before, parameters, allow_unused=True)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    if gradient is not None:
                        parameter -= 1e-2 * gradient / gradient.norm().clamp(min=1e-12)
            return before.item(), adversarial_loss().item()

        return step, head

    def test_the_discriminator_learns_to_tell_real_from_rebuilt(self, game):
        step, head = game
        before, after = step(list(head.discriminator.parameters()))
        assert after < before

    def test_encoder_and_decoder_learn_to_fool_it(self, game, tiny_encoder):
        step, head = game
        before, after = step([*tiny_encoder.parameters(), *head.decoder.parameters()])
        assert after > before

    def test_loss_of_certain_and_of_blind_judgements(self):
        certain = discriminator_loss(torch.full((2, 1, 3), 20.0), torch.full((2, 1, 3), -20.0))
        blind = discriminator_loss(torch.zeros(2, 1, 3), torch.zeros(2, 1, 3))
        assert certain.tolist() == pytest.approx([0, 0], abs=1e-6)
        assert blind.tolist() == pytest.approx([2 * np.log(2)] * 2)

    def test_the_term_is_weighted_and_left_out_of_evaluation(self, make_inpainting, make_batch, tiny_encoder):
        task = make_inpainting(adversarial_weight=0.25)
        batch = make_batch(task)
        head = task.make_head(tiny_encoder)
        training = predict(tiny_encoder, head, batch)
        evaluation = predict(tiny_encoder, head.eval(), batch)
        assert evaluation.real_logits is evaluation.fake_logits is None
        term = discriminator_loss(training.real_logits, training.fake_logits)
        torch.testing.assert_close(task.loss(training, batch), task.loss(evaluation, batch) + 0.25 * term)

    def test_real_and_rebuilt_differ_in_hidden_voxels_only(self, make_inpainting, make_batch):
        batch = make_batch(make_inpainting())
        batch["image"] = batch["image"] + 1  # as augmentation would, apart from the target
        rebuilt = fill_hidden(torch.full_like(batch["image"], -1.0), batch)
        assert torch.equal(rebuilt != batch["inpainting_target"], batch["inpainting_mask"])

    def test_without_it_there_is_no_discriminator(self, make_inpainting, tiny_encoder):
        assert make_inpainting().make_head(tiny_encoder).discriminator is None
