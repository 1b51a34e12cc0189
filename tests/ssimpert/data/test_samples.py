"""Shipped pictures are there, without a network."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from ssimpert.data import sample_array, samples
from ssimpert.errors import InputError


def test_every_sample_is_shipped_and_rgb(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise AssertionError("a sample asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for sample in samples():
        pixels = sample_array(sample.name)
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert min(pixels.shape[:2]) >= 300
        assert sample.description
        assert sample.licence


def test_photos_and_textures_are_told_apart() -> None:
    kinds = {sample.name: sample.kind for sample in samples()}
    assert kinds["chelsea"] == kinds["motorcycle"] == "photo"
    assert [name for name, kind in kinds.items() if kind == "texture"] == [
        "grass",
        "gravel",
        "brick",
        "moon",
        "hubble_deep_field",
    ]


def test_grey_samples_have_three_equal_channels() -> None:
    pixels = sample_array("camera")
    assert np.array_equal(pixels[:, :, 0], pixels[:, :, 1])
    assert np.array_equal(pixels[:, :, 0], pixels[:, :, 2])


def test_an_unknown_sample_names_near_ones() -> None:
    with pytest.raises(InputError, match="unknown sample 'chelse'; did you mean chelsea"):
        sample_array("chelse")
