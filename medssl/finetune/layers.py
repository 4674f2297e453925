"""Which parts of the network learn how fast, and from when on."""

from collections.abc import Sequence

import torch
from torch import nn

from medssl.config.finetune_schema import TransferConfig
from medssl.finetune.model import FinetuneModel
from medssl.networks.encoder import Encoder
from medssl.networks.model import Model
from medssl.training.state import ChooseLayers, Layers


def plan_layers(transfer: TransferConfig, *, total_steps: int) -> ChooseLayers:
    """Return how the parameters are grouped for the optimiser.

    A head learns at the full rate from the first step. A pretrained encoder is frozen for
    ``freeze_fraction`` of the steps; then its coarsest level learns at ``encoder_rate`` and each finer one at
    ``layer_decay`` times the rate of the one above it: fine levels hold what is common to all tasks (as in
    BEiT's fine-tuning, Bao et al., ICLR 2022).

    Args:
        transfer: Of a run that is not linear_probe or frozen, whose encoders need no gradient at all.
        total_steps: Optimiser steps of the run.
    """

    def choose(model: Model) -> list[Layers]:
        assert isinstance(model, FinetuneModel)
        head = Layers([*model.head.parameters()])
        if transfer.mode != "full":
            return [Layers([*model.encoder.parameters()]), head]
        levels = parameters_by_level(model.encoder)
        thaw_step = round(transfer.freeze_fraction * total_steps)
        return [
            *(
                Layers(level, transfer.encoder_rate * transfer.layer_decay**depth, thaw_step)
                for depth, level in enumerate(reversed(levels))
            ),
            head,
        ]

    return choose


def parameters_by_level(encoder: Encoder) -> list[list[nn.Parameter]]:
    """Return the parameters that each feature map is the first to depend on, fine to coarse.

    Found by following gradients back from the maps of a small volume, so that it holds for every encoder.
    """
    was_training = encoder.training
    parameters = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    device = parameters[0].device if parameters else torch.device("cpu")
    with torch.random.fork_rng(devices=[]):
        volume = torch.rand(1, encoder.in_channels, *encoder.smallest_input(), device=device)
        features = encoder.eval()(volume)
    encoder.train(was_training)
    left = parameters
    levels = []
    for level in features:
        used = _is_used(level, left)
        levels.append([parameter for parameter, is_used in zip(left, used, strict=True) if is_used])
        left = [parameter for parameter, is_used in zip(left, used, strict=True) if not is_used]
    levels[-1] += left
    return levels


def _is_used(level: torch.Tensor, parameters: Sequence[nn.Parameter]) -> list[bool]:
    if not parameters:
        return []
    gradients = torch.autograd.grad(level.sum(), parameters, retain_graph=True, allow_unused=True)
    return [gradient is not None for gradient in gradients]
