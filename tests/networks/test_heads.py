"""Heads, the discriminator and gradient reversal."""

import torch

from medssl.networks.heads import ClassificationHead, GradientReversal, PairHead, PatchDiscriminator


def test_classification_head_learns_what_an_embedding_tells() -> None:
    torch.manual_seed(0)
    embeddings = torch.randn(64, 16)
    classes = (embeddings[:, 0] * embeddings[:, 1] > 0).long()
    head = ClassificationHead(16, 2)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(150):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(head(embeddings), classes).backward()
        optimiser.step()
    assert (head(embeddings).argmax(dim=1) == classes).float().mean() > 0.95


def test_pair_head_tells_the_order_of_two_embeddings() -> None:
    head = PairHead(8, 26)
    first, second = torch.randn(3, 8), torch.randn(3, 8)
    logits = head(first, second)
    assert logits.shape == (3, 26)
    assert not torch.allclose(logits, head(second, first))


def test_discriminator_judges_each_crop_by_itself_patch_by_patch() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator()
    volume = torch.rand(2, 1, 24, 24, 24)
    logits = discriminator(volume)
    assert logits.shape == (2, 1, 4, 4, 4)
    torch.testing.assert_close(discriminator(volume[:1]), logits[:1])
    assert discriminator(torch.rand(1, 1, 16, 16, 16)).isfinite().all()


def test_gradient_reversal_keeps_values_and_turns_gradients() -> None:
    tensor = torch.tensor([1.0, -2.0], requires_grad=True)
    result = GradientReversal(factor=0.5)(tensor)
    torch.testing.assert_close(result, tensor)
    (result * torch.tensor([3.0, 4.0])).sum().backward()
    torch.testing.assert_close(tensor.grad, torch.tensor([-1.5, -2.0]))
