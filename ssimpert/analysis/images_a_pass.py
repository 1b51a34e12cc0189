"""How many images, or altered copies of one, go through the model at a time.

On a CPU small passes are faster: the larger the tensors, the more of them come as new memory from the system at every
layer (:mod:`ssimpert.analysis.freed_memory`). efficientnet-lite0 at 224 pixels, one thread on a busy machine, in ms of
processor time an image:

    images a pass                1     2     4     8    16
    forward                     25    24    35    47
      of it the system's         0     0    11    23
    forward and backward              55    54    57    94

A :func:`~ssimpert.models.forward_copy.forward_copy` needs less memory between layers and is fastest at 3 or 4
(docs/notes/forward-copies.md); an ONNX copy passes images one by one, however many it is given.
"""

from __future__ import annotations

from torch import Tensor

from ssimpert.validation import check_count

_SIDE = 224
_ON_CPU, _ON_CPU_FORWARD, _ON_OTHERS, _AT_MOST = 2, 4, 32, 256


def images_a_pass(batch_size: int | None, images: Tensor, *, forward_only: bool = False) -> int:
    """``batch_size``; for ``None`` as many of ``images`` (B, C, H, W) as make up the pixels of 2 images of 224 x 224 on
    a CPU, of 4 through a :func:`~ssimpert.models.forward_copy.forward_copy`, of 32 elsewhere, from 1 to 256.

    Raises:
        InputError: neither ``None`` nor an integer of at least 1.
    """
    if batch_size is not None:
        check_count("batch_size", batch_size)
        return batch_size
    on_cpu = _ON_CPU_FORWARD if forward_only else _ON_CPU
    pixels = (on_cpu if images.device.type == "cpu" else _ON_OTHERS) * _SIDE * _SIDE
    return max(1, min(_AT_MOST, pixels // (images.shape[-2] * images.shape[-1])))
