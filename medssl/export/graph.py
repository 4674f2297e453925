"""Networks as graphs that run without medssl and MONAI: programs of torch.export, and ONNX."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from medssl.atomic import atomic_path
from medssl.errors import UsageError
from medssl.export.exported import Exported, quoted
from medssl.networks.encoder import Encoder
from medssl.networks.model import Model

FIXED_SIZE = ("swin_unetr",)
"""Encoders whose windows are planned for one size of input, so their graph takes no other."""

LARGEST_INPUT = 1024
MAX_BATCH = 64


class ImageModel(nn.Module):
    """A fine-tuned network as a function of tensors: an image and, if it wants any, covariates.

    Args:
        model: Takes a batch by name and gives one prediction.
        covariates: How many numbers it is given beside an image ``(B, C, X, Y, Z)``.
    """

    def __init__(self, model: Model, *, covariates: int = 0) -> None:
        super().__init__()
        self.model = model
        self.covariates = covariates

    def forward(self, image: Tensor, covariates: Tensor | None = None) -> Tensor:
        """Return the logits: ``(B, classes, X, Y, Z)`` or ``(B, outputs)``."""
        numbers = image.new_zeros((image.shape[0], 0)) if covariates is None else covariates
        (logits,) = self.model({"image": image, "covariates": numbers}).values()
        result: Tensor = logits
        return result


def export_graph(
    network: nn.Module, encoder: Encoder, provenance: Mapping[str, Any], *, out: Path
) -> Exported:
    """Write a network as a graph.

    Args:
        network: The encoder itself, or an `ImageModel` around it.
        encoder: Whose strides count.
        provenance: What its file says of itself.
        out: The file to write: ``.onnx`` for ONNX, anything else for ``torch.export.load``.

    Raises:
        UsageError: If the packages for ONNX are not installed.
    """
    x, y, z = provenance["crop_size"]
    program = build_program(network, encoder, crop_size=(x, y, z))
    is_onnx = out.suffix == ".onnx"
    if is_onnx:
        save_onnx(out, program)
    else:
        save_program(out, program)
    shapes = [(1, *tensor.shape[1:]) for tensor in program.example_inputs[0]]
    result = "logits" if isinstance(network, ImageModel) else "feature maps, fine to coarse"
    is_fixed = encoder.architecture["name"] in FIXED_SIZE
    told = (
        f"It takes images of {encoder.in_channels} channels along R, A and S, intensities in [0, 1], "
        f"voxels of {_by(provenance['spacing_mm'])} mm, and returns {result}.",
        f"Sizes are fixed at {_by(shapes[0][2:])}."
        if is_fixed
        else f"Sizes must be multiples of {_by(encoder.strides[-1])}.",
    )
    return Exported(told, _onnx_lines(out, shapes) if is_onnx else _torch_lines(out, shapes))


def build_program(
    network: nn.Module, encoder: Encoder, *, crop_size: tuple[int, int, int]
) -> ExportedProgram:
    """Return a network as a program of ``torch.export``.

    Batches and, but for `FIXED_SIZE`, sizes are free: each axis a multiple of the encoder's coarsest stride.

    Args:
        network: The encoder itself, or an `ImageModel` around it.
        encoder: Whose strides count.
        crop_size: Voxels along X, Y and Z, rounded up to such multiples; the only size where it is fixed.
    """
    strides = encoder.strides[-1]
    size = [-(-voxels // stride) * stride for voxels, stride in zip(crop_size, strides, strict=True)]
    example = [torch.zeros(2, encoder.in_channels, *size)]  # a batch of one would be taken for a constant
    batch = Dim("batch", min=1, max=MAX_BATCH)
    free = {
        axis + 2: stride * Dim("xyz"[axis], min=2, max=LARGEST_INPUT // stride)
        if stride > 1
        else Dim("xyz"[axis])
        for axis, stride in enumerate(strides)
    }
    is_fixed = encoder.architecture["name"] in FIXED_SIZE
    shapes = [{0: batch} if is_fixed else {0: batch, **free}]
    if isinstance(network, ImageModel) and network.covariates:
        example.append(torch.zeros(2, network.covariates))
        shapes.append({0: batch})
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch about its own changes to come
        return torch.export.export(network.eval(), tuple(example), dynamic_shapes=tuple(shapes))


def save_program(path: Path, program: ExportedProgram) -> None:
    """Write a program for ``torch.export.load``, whole or not at all."""
    with atomic_path(path) as temporary:
        torch.export.save(program, temporary)


def save_onnx(path: Path, program: ExportedProgram) -> None:
    """Write a program as ONNX, whole or not at all.

    Raises:
        UsageError: If the extra ``onnx`` is not installed.
    """
    try:
        import onnxscript  # noqa: F401  torch writes ONNX with it
    except ImportError as error:
        raise UsageError(
            "ONNX needs the packages onnx and onnxscript: pip install 'medssl[onnx]'."
        ) from error
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(program, dynamo=True, verbose=False)
        assert exported is not None
        exported.save(temporary)


def _onnx_lines(out: Path, shapes: Sequence[tuple[int, ...]]) -> str:
    inputs = ", ".join(f"np.zeros({shape}, np.float32)" for shape in shapes)
    return (
        "import numpy as np\nimport onnxruntime\n\n"
        f"session = onnxruntime.InferenceSession({quoted(out)})\n"
        f"inputs = [{inputs}]\n"
        "names = [each.name for each in session.get_inputs()]\n"
        "outputs = session.run(None, dict(zip(names, inputs)))"
    )


def _torch_lines(out: Path, shapes: Sequence[tuple[int, ...]]) -> str:
    inputs = ", ".join(f"torch.zeros{shape}" for shape in shapes)
    return f"import torch\n\nnetwork = torch.export.load({quoted(out)}).module()\noutputs = network({inputs})"


def _by(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)
