"""What decides the numbers of a run: recorded beside the results, and compared when a command runs again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssimpert.package_versions import package_versions

if TYPE_CHECKING:
    from torch import nn

# How many differences a message names.
MAX_DIFFERENCES = 3


def run_record(command: str, model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What is recorded of a run before the model is loaded: the command, its options, and the packages' versions.

    Args:
        command: the name of the command.
        model: the name of the model.
        options: what decides the results, with defaults filled in: a run that gives a default by name is the same run.
            Weights, masks and objects are recorded by their content, and not here. An option that only the model can
            decide is left out; :class:`ssimpert.cli.workspace.Workspace` enters it.
    """
    from ssimpert.records import describe, json_values

    recorded = {name: describe(value) for name, value in {"model": model, **options}.items()}
    return {"command": command, "options": json_values(recorded), "versions": package_versions()}


def weights_record(model: nn.Module) -> dict[str, Any]:
    """What is recorded of a run once the model is loaded: a hash of all its numbers, and the kind of device."""
    from ssimpert.models.weights_hash import weights_hash

    device = next((value.device.type for value in model.state_dict().values()), "cpu")
    return {"weights_sha256": weights_hash(model), "device": device}


def photo_hash(image: str) -> str:
    """The hash of a photo's content: of the file's bytes, or of a sample's pixels.

    Raises:
        InputError: there is no such photo, or the file can't be read.
    """
    from ssimpert.data import load_image
    from ssimpert.data.samples import is_sample, sample_array
    from ssimpert.errors import InputError

    path = Path(image)
    try:
        if path.is_file():
            return file_hash(path)
    except OSError as error:
        raise InputError(f"can't read {image!r}: {error.strerror or error}") from error
    if is_sample(image):
        return hashlib.sha256(sample_array(image).tobytes()).hexdigest()
    load_image(image)
    raise InputError(f"{image!r} is neither a file nor a sample")


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """What is different in ``recorded``, a text for each; only what ``current`` has is compared.

    At most :data:`MAX_DIFFERENCES` are named, and the others are counted.
    """
    texts: list[str] = []
    for key, value in current.items():
        before = recorded.get(key)
        if before == value:
            continue
        if key == "options":
            texts += _entries(before, value, lambda name: f"--{name.replace('_', '-')}")
        elif key == "versions":
            texts += _entries(before, value, str)
        elif key == "weights_sha256":
            texts.append("the model's weights are others")
        else:
            texts.append(f"{key}: {before} there, {value} now")
    more = len(texts) - MAX_DIFFERENCES
    return texts if more <= 0 else [*texts[:MAX_DIFFERENCES], f"and {more} more"]


def _entries(before: Any, now: Mapping[str, Any], shown: Any) -> list[str]:
    before = before if isinstance(before, Mapping) else {}
    other = [name for name in now if before.get(name) != now[name]]
    # Sets have options of their own. Where both runs have an option that differs, such as the set, that one is named.
    shared = [name for name in other if name in before]
    return [f"{shown(name)}: {_text(before.get(name))} there, {_text(now[name])} now" for name in shared or other]


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
