"""Hooks act in their own thread, are taken away whatever happens, and leave compiled code alone."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from ssimpert.errors import InputError
from ssimpert.models.layer_outputs import check_observable, describe_output, observable_layers, on_layer_outputs


def test_an_action_sees_and_replaces_the_outputs_within_the_block_only() -> None:
    relu, seen = nn.ReLU(), []

    def double(name: str, output: object) -> Tensor:
        seen.append(name)
        assert isinstance(output, Tensor)
        return 2 * output

    one = torch.ones(1)
    with on_layer_outputs({"layer": relu}, double):
        assert relu(one) == 2
    assert relu(one) == 1
    assert seen == ["layer"]


def test_hooks_are_removed_after_an_error_of_the_network_and_of_the_action() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    for wrong in (torch.ones(1, 3), torch.ones(1, 2)):

        def refuse(_name: str, _output: object) -> None:
            raise InputError("refused")

        with (
            pytest.raises((RuntimeError, InputError)),
            on_layer_outputs(dict(network.named_children()), refuse),
        ):
            network(wrong)
    assert not any(module._forward_hooks for module in network.modules())


def test_an_action_is_not_called_in_other_threads() -> None:
    relu, seen = nn.ReLU(), []
    with on_layer_outputs({"layer": relu}, lambda name, _: seen.append(name)):
        thread = threading.Thread(target=relu, args=(torch.ones(1),))
        thread.start()
        thread.join()
    assert seen == []


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (torch.ones(2, 3), "(2, 3)"),
        ((torch.ones(2), None), "a tuple of (2,) and None"),
        ([], "a list of nothing"),
        ({"out": 1, "aux": 2}, "a dict with the keys 'out', 'aux'"),
        (3, "a int"),
    ],
)
def test_what_a_layer_gave_is_described(output: object, text: str) -> None:
    assert describe_output(output) == text


def test_modules_inside_compiled_parts_are_not_observable() -> None:
    network = nn.Sequential(nn.ReLU(), torch.compile(nn.Sequential(nn.ReLU()), backend="eager"))
    assert list(observable_layers(network)) == ["0"]
    own = nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU()))
    own[1].compile(backend="eager")
    assert list(observable_layers(own)) == ["0"]
    with pytest.raises(InputError, match=r"layer '1.0' can't be observed: part '1' of model M is compiled"):
        check_observable("1.0", own[1][0], own, "model M")
