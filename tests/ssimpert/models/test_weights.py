"""Weight files: keys and shapes as torch's strict load judges them, and values that can be weights."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ssimpert.errors import InputError
from ssimpert.models.weights import load_weights, load_weights_in_order, read_weights


def load_weights_file(network: nn.Module, path: Path, name: str) -> None:
    load_weights(network, read_weights(path), path, name)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def altered() -> OrderedDict[str, Tensor]:
    """A state dict of :func:`network` with other values, and with torch's record of the modules' versions."""
    source = network()
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.mul_(0.5)
    return source.state_dict()  # type: ignore[return-value]


def without(state: OrderedDict[str, Tensor], *keys: str) -> OrderedDict[str, Tensor]:
    """The same state, with its record of versions, but without some keys."""
    for key in keys:
        del state[key]
    return state


COUNTER = "1.num_batches_tracked"
STATES = {
    "whole": altered(),
    "no counter, no versions": dict(without(altered(), COUNTER)),
    "no counter, versions of today": without(altered(), COUNTER),
    "no weight": without(altered(), "3.weight"),
    "one key more": {**altered(), "4.bias": torch.zeros(2)},
    "another shape": {**altered(), "3.bias": torch.zeros(3)},
    "numbers with an axis": {**altered(), COUNTER: torch.tensor([3])},
    "half precision": {key: value.half() if value.is_floating_point() else value for key, value in altered().items()},
    "a counter in floating point": {**altered(), COUNTER: torch.tensor(3.0)},
}


def torch_takes(state: dict[str, Tensor]) -> bool:
    try:
        network().load_state_dict(state, strict=True)
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize(
    ("ending", "wrapper"),
    [
        (".pth", None),
        (".pth", "state_dict"),
        (".pth", "model"),
        (".pth", "module."),
        (".safetensors", None),
        (".safetensors", "module."),
    ],
)
@pytest.mark.parametrize("name", STATES)
def test_a_file_is_taken_exactly_where_torchs_strict_load_takes_it(
    name: str, ending: str, wrapper: str | None, tmp_path: Path
) -> None:
    state: Any = STATES[name]
    path = tmp_path / f"weights{ending}"
    if ending == ".safetensors":
        state = dict(state)  # this format keeps no versions
    expected = torch_takes(state)
    content: Any = state
    if wrapper == "module.":
        content = type(state)((f"module.{key}", value) for key, value in state.items())
        if hasattr(state, "_metadata"):
            content._metadata = OrderedDict((f"module.{key}".rstrip("."), v) for key, v in state._metadata.items())
    elif wrapper is not None:
        content = {wrapper: state, "epoch": 3}
    if ending == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    filled = network()
    if expected:
        load_weights_file(filled, path, "toy")
        torch.testing.assert_close(filled.state_dict()["3.weight"], altered()["3.weight"], rtol=1e-3, atol=1e-3)
    else:
        with pytest.raises(InputError, match="don't fit model 'toy': ") as caught:
            load_weights_file(filled, path, "toy")
        assert "\n" not in str(caught.value)


def test_the_oracle_takes_files_without_counters_only_where_no_version_is_said() -> None:
    assert torch_takes(STATES["no counter, no versions"])
    assert not torch_takes(STATES["no counter, versions of today"])


def with_nan() -> Tensor:
    value = torch.zeros(2, 16)
    value[1, 3] = float("nan")
    value[0, 2] = float("inf")
    return value


def quantised() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.zeros(2, 16), 0.1, 0, torch.qint8)


def compressed() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.zeros(2, 16).to_sparse_csr()


WRONG_VALUES = [
    (torch.zeros(2, 16).to_sparse(), "entry '3.weight' is a sparse_coo tensor; save it as a dense one"),
    (compressed(), "entry '3.weight' is a sparse_csr tensor"),
    (quantised(), r"is quantised \(torch.qint8\)"),
    (torch.zeros(2, 16, device="meta"), "is on the meta device and has no values"),
    (torch.zeros(2, 16, dtype=torch.complex64), "is torch.complex64 where the network has torch.float32"),
    (torch.zeros(2, 16, dtype=torch.int64), "is torch.int64 where the network has torch.float32"),
    (torch.zeros(2, 16, dtype=torch.bool), "is torch.bool where the network has torch.float32"),
    (with_nan(), "has 2 values that are NaN or infinite, of 32"),
    (torch.full((2, 16), 1e300, dtype=torch.float64), "has 32 values that are too large for torch.float32, of 32"),
    (with_nan().half(), "has 2 values that are NaN or infinite, of 32"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("value", "message"), WRONG_VALUES)
@pytest.mark.parametrize("load", [load_weights_file, load_weights_in_order])
def test_a_tensor_that_can_not_be_a_weight_is_named(value: Tensor, message: str, load: Any, tmp_path: Path) -> None:
    torch.save({**altered(), "3.weight": value}, tmp_path / "odd.pth")
    untouched = network()
    with pytest.raises(InputError, match=message) as caught:
        load(untouched, tmp_path / "odd.pth", "toy")
    assert "odd.pth': entry '3.weight'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert torch.equal(untouched.state_dict()["0.weight"], network().state_dict()["0.weight"])


@pytest.mark.parametrize(("value", "message"), WRONG_VALUES[5:])
def test_such_a_tensor_is_named_in_safetensors_too(value: Tensor, message: str, tmp_path: Path) -> None:
    save_file({**altered(), "3.weight": value}, tmp_path / "odd.safetensors")
    with pytest.raises(InputError, match=f"entry '3.weight' {message}"):
        load_weights_file(network(), tmp_path / "odd.safetensors", "toy")


def test_infinities_that_the_network_has_itself_are_taken(tmp_path: Path) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))

    torch.save(Masked().state_dict(), tmp_path / "mask.pth")
    load_weights_file(Masked(), tmp_path / "mask.pth", "masked")


def test_a_state_of_a_modules_own_is_passed_on(tmp_path: Path) -> None:
    class WithExtra(nn.Linear):
        extra: Any = None

        def get_extra_state(self) -> Any:
            return {"steps": 3}

        def set_extra_state(self, state: Any) -> None:
            self.extra = state

    torch.save(WithExtra(2, 2).state_dict(), tmp_path / "extra.pth")
    filled = WithExtra(2, 2)
    load_weights_file(filled, tmp_path / "extra.pth", "extra")
    assert filled.extra == {"steps": 3}
