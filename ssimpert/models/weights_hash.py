"""A hash of all the numbers of a model."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn


def weights_hash(model: nn.Module) -> str:
    """The SHA-256, in hexadecimal digits, of a model's weights and buffers: their names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
