"""Reading a network's weights from files, without running any code that a file may hold."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ssimpert.errors import InputError


def load_weights_file(network: nn.Module, path: str | Path, name: str) -> None:
    """Fill ``network``, which errors call ``name``, with the state dict in the file ``path``.

    ``path`` is a ``.safetensors`` file or a torch file, which is read with ``weights_only=True``. A torch file may wrap
    the state dict in an entry "state_dict" or "model", and its keys may have the prefix "module." of data-parallel
    training.

    Raises:
        InputError: there is no such file, it is no state dict, or its keys or shapes are not those of the network.
    """
    state = _read(Path(path))
    expected = network.state_dict()
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    if missing or unexpected:
        raise InputError(
            f"weights {str(path)!r} don't fit model {name!r}: {_count(missing, 'missing')}, "
            f"{_count(unexpected, 'unexpected')}"
        )
    wrong = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if state[key].shape != value.shape
    ]
    if wrong:
        raise InputError(f"weights {str(path)!r} don't fit model {name!r}: {len(wrong)} shapes differ ({_few(wrong)})")
    network.load_state_dict(state)


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
    network.load_state_dict(renamed)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        fault = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(
            f"weights file {str(path)!r} {fault}; give a .pth, .pt or .safetensors state dict, or 'random'"
        )
    if path.suffix == ".safetensors":
        return _strip_prefix(_read_safetensors(path))
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"weights file {str(path)!r} is not a plain state dict (torch refuses it with weights_only=True)"
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
    not_a_tensor = next((key for key, value in content.items() if not isinstance(value, Tensor)), None)
    if not_a_tensor is not None:
        raise InputError(f"weights file {str(path)!r} is not a state dict: its entry {not_a_tensor!r} is not a tensor")
    return _strip_prefix({str(key): value for key, value in content.items()})


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"can't read weights file {str(path)!r} ({_first_line(error)})") from error


def _strip_prefix(state: dict[str, Tensor], prefix: str = "module.") -> dict[str, Tensor]:
    if all(key.startswith(prefix) for key in state):
        return {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _count(keys: list[str], status: str) -> str:
    return f"{len(keys)} keys {status} ({_few(keys)})" if keys else f"0 keys {status}"


def _few(items: list[str]) -> str:
    return ", ".join(items[:3]) + (", ..." if len(items) > 3 else "")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
