"""Numbers and lists of numpy and torch count like Python's in every option, and are kept as Python's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

import solvers
from solvers import ProblemError, Settings, Window

INTEGERS: dict[str, Callable[[int], Any]] = {
    "numpy int64": np.int64,
    "numpy int32": np.int32,
    "numpy uint8": np.uint8,
    "array without axes": np.array,
    "tensor without axes": torch.tensor,
}
REALS: dict[str, Callable[[float], Any]] = {
    "numpy float64": np.float64,
    "numpy float32": np.float32,
    "array without axes": lambda value: np.array(value, dtype=np.float32),
    "tensor without axes": lambda value: torch.tensor(value, dtype=torch.float64, requires_grad=True),
}
# All reals are exact in single precision, so that every kind of number says the same.
COUNTED: dict[str, tuple[Callable[[Any], Any], int]] = {
    "Window size": (lambda v: Window(size=v), 8),
    "Window stride": (lambda v: Window(size=8, stride=v), 4),
    "Window.uniform size": (lambda v: Window.uniform(v), 7),
    "Window.uniform stride": (lambda v: Window.uniform(7, stride=v), 7),
    "Window.gaussian size": (lambda v: Window.gaussian(1.5, v), 9),
    "Window.gaussian stride": (lambda v: Window.gaussian(1.5, 9, stride=v), 3),
    "Settings max_iter": (lambda v: Settings(max_iter=v), 3),
    "Settings check_interval": (lambda v: Settings(check_interval=v), 2),
    "Settings seed": (lambda v: Settings(seed=v), 5),
    "Settings from a dictionary": (lambda v: Settings.of({"max_iter": v}), 3),
}
MEASURED: dict[str, tuple[Callable[[Any], Any], float]] = {
    "Window sigma": (lambda v: Window(size=9, sigma=v), 1.5),
    "Window.gaussian sigma": (lambda v: Window.gaussian(v), 1.25),
    "Settings eps_abs": (lambda v: Settings(eps_abs=v), 0.5),
    "Settings eps_rel": (lambda v: Settings(eps_rel=v), 0.25),
    "Settings time_limit": (lambda v: Settings(time_limit=v), 2.5),
    "Box lower": (lambda v: solvers.Box(v, 1), -0.5),
    "Box upper": (lambda v: solvers.Box(0, v), 2.5),
    "LpBall p": (lambda v: solvers.LpBall(v, 1.0), 2.0),
    "LpBall radius": (lambda v: solvers.LpBall(2, v), 0.5),
    "FeatureBall radius": (lambda v: solvers.FeatureBall(v, PRODUCTS), 0.5),
    "GlobalSSIM distance": (lambda v: solvers.GlobalSSIM(v), 0.125),
    "GlobalSSIM constant": (lambda v: solvers.GlobalSSIM(0.125, constant=v), 0.5),
    "GlobalSSIM pixel_scale": (lambda v: solvers.GlobalSSIM(0.125, pixel_scale=v), 1.5),
    "WindowSSIM threshold": (lambda v: solvers.WindowSSIM(v), 0.875),
    "WindowSSIM luminance": (lambda v: solvers.WindowSSIM(0.875, luminance=v), 0.0625),
    "WindowSSIM data_range": (lambda v: solvers.WindowSSIM(0.875, data_range=v), 255.0),
    "ProductSSIM threshold": (lambda v: solvers.ProductSSIM(v), 0.875),
    "ProductSSIM data_range": (lambda v: solvers.ProductSSIM(0.875, data_range=v), 255.0),
    "MeanSSIM threshold": (lambda v: solvers.MeanSSIM(v), 0.875),
    "MeanSSIM luminance": (lambda v: solvers.MeanSSIM(0.875, luminance=v), 0.0625),
    "MeanSSIM data_range": (lambda v: solvers.MeanSSIM(0.875, data_range=v), 255.0),
}
FLAGS: dict[str, Callable[[Any], Any]] = {
    "Settings verbose": lambda v: Settings(verbose=v),
    "Settings force": lambda v: Settings(force=v),
    "WindowSSIM sample_covariance": lambda v: solvers.WindowSSIM(0.875, sample_covariance=v),
    "ProductSSIM sample_covariance": lambda v: solvers.ProductSSIM(0.875, sample_covariance=v),
    "MeanSSIM sample_covariance": lambda v: solvers.MeanSSIM(0.875, sample_covariance=v),
}
PRODUCTS = solvers.LinearOperator(lambda v: v.flatten(1), lambda u: u.view(-1, 1, 8, 8))


def stored(made: Any) -> list[tuple[str, type, Any]]:
    """The name, the type and the value of every field: a number of numpy would differ from Python's in its type."""
    values = [(entry.name, getattr(made, entry.name)) for entry in fields(made)]
    return [(name, type(value), stored(value) if isinstance(value, Window) else value) for name, value in values]


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("option", COUNTED)
def test_integers_of_any_kind_are_kept_as_pythons(option: str, kind: str) -> None:
    make, value = COUNTED[option]
    assert stored(make(INTEGERS[kind](value))) == stored(make(value))


@pytest.mark.parametrize("kind", REALS)
@pytest.mark.parametrize("option", MEASURED)
def test_reals_of_any_kind_are_kept_as_pythons(option: str, kind: str) -> None:
    make, value = MEASURED[option]
    assert stored(make(REALS[kind](value))) == stored(make(value))


@pytest.mark.parametrize("switch", [np.True_, np.array(True), torch.tensor(True)])
@pytest.mark.parametrize("option", FLAGS)
def test_switches_of_any_kind_are_kept_as_pythons(option: str, switch: Any) -> None:
    assert stored(FLAGS[option](switch)) == stored(FLAGS[option](True))
    with pytest.raises(ProblemError, match="must be True or False, got 'yes'"):
        FLAGS[option]("yes")


@pytest.mark.parametrize("value", [True, np.True_, torch.tensor(True), "2", None, [2], np.array([2]), 2j])
@pytest.mark.parametrize("option", [*COUNTED, *MEASURED])
def test_what_is_no_number_is_refused_in_a_line(option: str, value: Any) -> None:
    make, _ = (COUNTED | MEASURED)[option]  # type: ignore[operator]
    if option.endswith("radius") and value is not None and isinstance(value, (list, np.ndarray)):
        return  # a list of radii
    if value is None and option.endswith(("sigma", "MeanSSIM luminance")):
        return  # the default
    with pytest.raises(ProblemError) as caught:
        make(value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [2.0, np.float64(3), torch.tensor(3.0)])
@pytest.mark.parametrize("option", COUNTED)
def test_a_real_number_is_no_integer(option: str, value: Any) -> None:
    with pytest.raises(ProblemError, match="integer"):
        COUNTED[option][0](value)


RADII: list[Any] = [
    np.array([0.5, 0.25]),
    np.array([0.5, 0.25], dtype=np.float32),
    torch.tensor([0.5, 0.25], requires_grad=True),
    (0.5, np.float32(0.25)),
    [torch.tensor(0.5), 0.25],
]


@pytest.mark.parametrize("radii", RADII)
def test_radii_of_any_kind_are_a_copy_in_double_precision(radii: Any) -> None:
    ball = solvers.LpBall(2, radii)
    assert isinstance(ball.radius, torch.Tensor)
    assert ball.radius.dtype == torch.float64
    assert not ball.radius.requires_grad
    assert ball.radius.tolist() == [0.5, 0.25]
    if isinstance(radii, np.ndarray):
        radii[:] = 7
        assert ball.radius.tolist() == [0.5, 0.25]


@pytest.mark.parametrize("radii", [[True, True], np.array([True, False]), torch.tensor([True]), ["a"], np.array([1j])])
def test_what_are_no_radii_is_refused(radii: Any) -> None:
    with pytest.raises(ProblemError, match="radius must be"):
        solvers.LpBall(2, radii)


def test_numbers_too_large_for_a_float_are_named() -> None:
    with pytest.raises(ProblemError, match="radius must be"):
        solvers.LpBall(2, 10**400)
    assert solvers.LpBall(np.float64(math.inf), 1).p == math.inf
