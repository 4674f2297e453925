"""The one place where randomness is derived, so that nothing depends on what was drawn before."""

from hashlib import blake2b

import torch


def derive_seed(*parts: int | str) -> int:
    """Return a seed that is a pure function of ``parts``.

    Args:
        parts: What the randomness is for and which of its kind it is, such as ``("crop", seed, position)``.

    Returns:
        A number in [0, 2**63), which fits an int64 tensor; unrelated for parts that differ at all.
    """
    digest = blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch for one optimiser step, so that dropout is a function of the step and the process.

    A checkpoint therefore needs no random states.
    """
    torch.manual_seed(derive_seed("step", seed, step, rank))
