"""What every kind of training trains."""

from torch import nn

from medssl.networks.encoder import Encoder


class Model(nn.Module):
    """An encoder with what stands on top of it; ``forward`` goes from a batch to predictions by name.

    Attributes:
        encoder: What pretraining is for.
    """

    encoder: Encoder
