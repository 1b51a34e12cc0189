"""Reading a network's weights from files, without running any code that a file may hold."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from ssimpert.errors import InputError
from ssimpert.weights_path import check_weights_path

# The end of a key under which a module saves what is no tensor.
_EXTRA_STATE = "_extra_state"


def read_weights(path: str | Path) -> dict[str, Any]:
    """The state dict in the file ``path``; no code in the file is run.

    ``path`` is a ``.safetensors`` file or a torch file, which is read with ``weights_only=True``. A torch file may wrap
    the state dict in an entry "state_dict" or "model", and its keys may have the prefix "module." of data-parallel
    training.

    Raises:
        InputError: there is no such file, or it is no state dict.
    """
    return _read(Path(path))


def load_weights(network: nn.Module, state: dict[str, Any], path: str | Path, name: str) -> None:
    """Fill ``network``, which errors call ``name``, with the state dict that was read from the file ``path``.

    Keys and shapes fit where ``network.load_state_dict(state, strict=True)`` takes them. So a file that does not say
    which version of torch's modules it is of may lack the ``num_batches_tracked`` of batch norms. Values are judged
    more strictly than torch judges them: torch would cut off an imaginary part, and keep a NaN.

    Raises:
        InputError: keys or shapes are not those of the network, which may then be filled in part. Also for a tensor
            that is sparse, nested, quantised or without values (on the meta device), that is complex, integer or bool
            where the network has real numbers, or that has values which are NaN or infinite, or become infinite in the
            network's dtype.
    """
    expected = network.state_dict()
    where = f"weights {str(path)!r} don't fit model {name!r}"
    _check_values(path, {key: (value, expected.get(key)) for key, value in state.items()})
    wrong = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if isinstance(value, Tensor) and isinstance(state.get(key), Tensor) and state[key].shape != value.shape
    ]
    try:
        # torch decides which keys and shapes fit, here and with strict=True alike. Only the error message is ours.
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        reason = f"{len(wrong)} shapes differ ({_few(wrong)})" if wrong else _reason(error)
        raise InputError(f"{where}: {reason}") from error
    if missing or unexpected:
        raise InputError(f"{where}: {_count(missing, 'missing')}, {_count(unexpected, 'unexpected')}")


def other_class_count(network: nn.Module, state: Mapping[str, Any]) -> int | None:
    """The number of classes of the weights ``state``, where these are of ``network`` with another number of classes.

    This is so where the entries of other shapes are those of a last layer: a weight at least, all with one number in
    the network, and with one other number in the file, as their first axis. ``None`` otherwise.
    """
    differing = [
        (value, stored)
        for key, value in network.state_dict().items()
        if isinstance(value, Tensor) and isinstance(stored := state.get(key), Tensor) and stored.shape != value.shape
    ]
    if any(not stored.ndim or stored.shape[1:] != value.shape[1:] for value, stored in differing):
        return None
    counts = {(len(value), len(stored)) for value, stored in differing}
    has_weight = any(value.ndim > 1 for value, _ in differing)
    return counts.pop()[1] or None if len(counts) == 1 and has_weight else None


def load_weights_in_order(network: nn.Module, path: str | Path, name: str) -> None:
    """Fill ``network`` with the entries of the torch file ``path`` by position, for a port that renamed the keys.

    The number of entries, every shape, and the last part of every entry's name ("weight", "running_mean") must agree.

    Raises:
        InputError: the file is not such a port.
    """
    state = _read(Path(path))
    expected = network.state_dict()
    if len(state) != len(expected):
        raise InputError(f"weights {str(path)!r} hold {len(state)} entries; model {name!r} has {len(expected)}")
    renamed: dict[str, Tensor] = {}
    for (key, value), (source, stored) in zip(expected.items(), state.items(), strict=True):
        if stored.shape != value.shape or source.rpartition(".")[2] != key.rpartition(".")[2]:
            raise InputError(
                f"weights {str(path)!r}: entry {source} {tuple(stored.shape)} stands where model {name!r} "
                f"has {key} {tuple(value.shape)}"
            )
        renamed[key] = stored
    _check_values(path, {key: (stored, expected[key]) for key, stored in renamed.items()})
    network.load_state_dict(renamed)


def _check_values(path: str | Path, pairs: Mapping[str, tuple[Any, Any]]) -> None:
    """Raise :class:`InputError` for the first tensor that can't become a weight.

    Args:
        path: what errors call the file.
        pairs: for each key the value in the file and the value in the network, ``None`` where the network has none.
    """
    for key, (value, expected) in pairs.items():
        fault = _fault(value, expected) if isinstance(value, Tensor) else None
        if fault is not None:
            raise InputError(f"weights {str(path)!r}: entry {key!r} {fault}")


def _fault(value: Tensor, expected: Any) -> str | None:
    """Why ``value`` can't take the place of ``expected`` in a network; ``None`` where it can."""
    if value.is_quantized:
        return f"is quantised ({value.dtype}); dequantise the weights before saving them"
    if value.is_nested or value.layout is not torch.strided:
        layout = "nested" if value.is_nested else str(value.layout).removeprefix("torch.")
        return f"is a {layout} tensor; save it as a dense one, by to_dense()"
    if value.is_meta:
        return "is on the meta device and has no values; save the weights from a device that has them"
    if isinstance(expected, Tensor) and expected.is_floating_point() and not value.is_floating_point():
        return f"is {value.dtype} where the network has {expected.dtype}; save it as floating point"
    if isinstance(expected, Tensor) and not expected.is_complex() and value.is_complex():
        return f"is {value.dtype} where the network has {expected.dtype}; save its real part"
    unusable = _count_unusable(value)
    # A network may hold infinities itself, in the mask of an attention.
    if unusable and not (isinstance(expected, Tensor) and not expected.is_meta and _count_unusable(expected)):
        return f"has {unusable} values that are NaN or infinite, of {value.numel()}"
    if isinstance(expected, Tensor) and expected.is_floating_point() and value.is_floating_point():
        lost = _count_unusable(value.to(expected.dtype)) - unusable
        if lost:
            return f"has {lost} values that are too large for {expected.dtype}, of {value.numel()}"
    return None


def _count_unusable(value: Tensor) -> int:
    if not value.is_floating_point() and not value.is_complex():
        return 0
    # Types of one byte have no test of their own.
    wide = value.float() if value.is_floating_point() and value.element_size() == 1 else value
    return int((~wide.isfinite()).sum())


def _read(path: Path) -> dict[str, Any]:
    check_weights_path(path)
    if path.suffix == ".safetensors":
        return _strip_prefix(_read_safetensors(path))
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"weights file {str(path)!r} is not a plain state dict (torch refuses it with weights_only=True); "
            "save the network's state_dict() alone, since a whole network is code"
        ) from error
    except Exception as error:
        # On bytes that are no pickle, the unpickler fails in many ways (IndexError, ...).
        raise InputError(
            f"weights file {str(path)!r} is no .pth, .pt or .safetensors state dict ({_first_line(error)})"
        ) from error
    for entry in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(entry), Mapping):
            content = content[entry]
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"weights file {str(path)!r} holds a {type(content).__name__}, not a state dict")
    state = OrderedDict((str(key), value) for key, value in content.items())
    for key, value in state.items():
        # A module may save a state of its own, which is no tensor.
        if not isinstance(value, Tensor) and not key.endswith(_EXTRA_STATE):
            raise InputError(f"weights file {str(path)!r} is not a state dict: its entry {key!r} is not a tensor")
    # The versions of the modules, by which torch knows what an older file lacks.
    metadata = getattr(content, "_metadata", None)
    if metadata is not None:
        state._metadata = metadata  # type: ignore[attr-defined]
    return _strip_prefix(state)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"can't read weights file {str(path)!r} ({_first_line(error)})") from error


def _strip_prefix(state: dict[str, Any], prefix: str = "module.") -> dict[str, Any]:
    if all(key.startswith(prefix) for key in state):
        consume_prefix_in_state_dict_if_present(state, prefix)
    return state


def _count(keys: list[str], status: str) -> str:
    return f"{len(keys)} keys {status} ({_few(keys)})" if keys else f"0 keys {status}"


def _few(items: list[str]) -> str:
    return ", ".join(items[:3]) + (", ..." if len(items) > 3 else "")


def _reason(error: RuntimeError) -> str:
    """What torch objects to: the line after the headline "Error(s) in loading state_dict for ..."."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[min(1, len(lines) - 1)] if lines else type(error).__name__


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
