"""From feature maps to an embedding of each point, and those of all scans it is looked for among."""

from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather

from medssl.networks.decoder import UNetDecoder
from medssl.networks.encoder import Encoder
from medssl.pretext.task import Batch, TaskHead

EMBEDDING = 32
"""Numbers that describe a voxel."""


class CorrespondencePrediction(NamedTuple):
    """What the correspondence head returns.

    Attributes:
        embeddings: Of unit length ``(B, 2, N, EMBEDDING)``.
        candidates: Those of all samples among which a point is looked for ``(G, 2, N, EMBEDDING)``: in
            training the batch over all processes.
        places: Of those ``(G, N, 3)``, in mm.
        offset: Which of the candidates the first of the B samples is.
    """

    embeddings: Tensor
    candidates: Tensor
    places: Tensor
    offset: int


class CorrespondenceHead(TaskHead):
    """A U-Net decoder, and two layers from its features at a point to the point's embedding."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.decoder = UNetDecoder(encoder.channels, encoder.strides, out_channels=2 * EMBEDDING)
        self.project = nn.Sequential(nn.LeakyReLU(), nn.Linear(2 * EMBEDDING, EMBEDDING))

    def forward(self, features: list[Tensor], batch: Batch) -> CorrespondencePrediction:
        """Embed the points of both views."""
        dense = self.decoder.body(features, batch["correspondence_views"].shape[3:])
        grid = torch.stack([batch["correspondence_first"], batch["correspondence_second"]], dim=1)
        at_points = F.grid_sample(
            dense, grid.flatten(0, 1)[:, None, None].to(dense.dtype), align_corners=True
        )
        embedded = self.project(self.decoder.out(at_points)[:, :, 0, 0].movedim(1, -1))
        embeddings = F.normalize(embedded.float(), dim=-1).unflatten(0, grid.shape[:2])
        places = batch["correspondence_places"]
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return CorrespondencePrediction(embeddings, embeddings, places, 0)
        everywhere = torch.cat(all_gather(embeddings)), torch.cat(all_gather(places))
        return CorrespondencePrediction(embeddings, *everywhere, dist.get_rank() * len(embeddings))
