"""From a pretrained run to the start of a fine-tuned network."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from medssl.errors import UsageError
from medssl.networks.build import rebuild_encoder
from medssl.networks.decoder import UNetDecoder
from medssl.networks.encoder import Encoder
from medssl.networks.provenance import read_provenance
from medssl.networks.weights import LoadReport, load_weights, read_weights
from medssl.training.checkpoint import read_checkpoint, weights_to_keep

WEIGHTS = "encoder.safetensors"
DECODER_PREFIXES = (
    "heads.correspondence.decoder.",
    "heads.location.decoder.",
    "heads.inpainting.decoder.",
)
"""Where a checkpoint holds the decoders of tasks that predict something of every voxel, the better start
first: which voxel it is says more of its class than where it lies, and that more than how bright it is."""

LAST_LAYER = "out."


@dataclass(frozen=True)
class Pretrained:
    """A pretrained encoder on disk.

    Attributes:
        weights: Its safetensors file.
        provenance: What that says of itself: architecture, spacing, intensity recipe, crop size and more.
    """

    weights: Path
    provenance: Mapping[str, Any]

    @classmethod
    def find(cls, source: Path) -> "Pretrained":
        """Return the encoder of a run folder, or of a weights file itself.

        Raises:
            UsageError: If the run folder holds no encoder.
            CheckpointError: If the weights cannot be read.
        """
        if source.is_dir() and not (source / WEIGHTS).exists():
            raise UsageError(f"{source} holds no {WEIGHTS}: finish the run first, or name a weights file.")
        weights = source / WEIGHTS if source.is_dir() else source
        return cls(weights, read_provenance(weights))

    def build_encoder(self, *, in_channels: int) -> Encoder:
        """Return an encoder of the same architecture for so many channels, with random weights."""
        return rebuild_encoder({**self.provenance["architecture"], "in_channels": in_channels})

    def load_encoder(self, *, in_channels: int) -> tuple[Encoder, LoadReport]:
        """Return the encoder with its weights, the stem fitted to ``in_channels``, and what was loaded."""
        encoder = self.build_encoder(in_channels=in_channels)
        return encoder, load_weights(encoder, read_weights(self.weights))

    def load_decoder(self, decoder: UNetDecoder) -> LoadReport | None:
        """Load all but the last layer of the decoder of a dense pretext task; None where there was none.

        It lies in the run's checkpoints, as the encoder's file holds the encoder alone.
        """
        checkpoints = self.weights.parent / "checkpoints"
        kept = [path for name in ("best.pt", "last.pt") if (path := checkpoints / name).exists()]
        if not kept:
            return None
        state = weights_to_keep(read_checkpoint(kept[0]))
        for prefix in DECODER_PREFIXES:
            own: dict[str, Tensor] = {
                name.removeprefix(prefix): tensor
                for name, tensor in state.items()
                if name.startswith(prefix) and not name.startswith(prefix + LAST_LAYER)
            }
            if own:
                return load_weights(decoder, own)
        return None
