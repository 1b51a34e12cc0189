"""The grid of maps draws each image's own maps in their places, with their names and agreement."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import Tensor

from ssimpert.analysis import Comparison, compare
from ssimpert.errors import InputError
from ssimpert.report import map_grid
from tests.ssimpert.analysis.example import SmallClassifier, example_images, example_result
from tests.ssimpert.report.shown import check_texts, texts

NAMES = ["a cat", "a dog", "a fox"]


@pytest.fixture(scope="module")
def case() -> tuple[Tensor, Comparison]:
    model, image = SmallClassifier(), example_images(3)
    ours = example_result(model, image, name="GlobalSSIM e = 0.005, re-centred")
    control = example_result(model, image, name="l2 control", step=0.03, seed=1)
    return image, compare(model, image, ours, control=control, attributions=["grad_cam", "smooth_grad"], shifts=0)


def drawn(axes: Any, layer: int = 0) -> np.ndarray:
    return np.asarray(axes.images[layer].get_array(), dtype=float)


def test_a_row_an_image_and_a_panel_a_map(case: tuple[Tensor, Comparison]) -> None:
    image, view = case
    maps = [("l2 control", "ssim"), ("local std", "local_std"), ("smooth_grad", "smooth_grad")]
    figure = map_grid(image, view, images=[2, 0], names=NAMES, maps=maps)
    assert len(figure.axes) == 2 * 5
    panels = sorted(figure.axes, key=lambda axes: (-round(axes.get_position().y0, 4), axes.get_position().x0))
    for row, index in enumerate([2, 0]):
        photo, cam, *rest = panels[5 * row : 5 * row + 5]
        assert photo.get_ylabel() == NAMES[index]
        assert np.allclose(drawn(photo), image[index].permute(1, 2, 0))
        assert np.allclose(drawn(cam, 1), view.cam[index])
        for axes, (method, kind) in zip(rest, maps, strict=True):
            assert np.allclose(drawn(axes), view.maps[method][kind][index])
            assert len(axes.collections) == 2  # the outline, dark below light
            value = float(view.scores[method][kind].values["pearson"][index])
            assert float(axes.get_xlabel().replace("\N{MINUS SIGN}", "-")) == pytest.approx(value, abs=0.0051)


def test_every_map_is_there_by_default_in_bands(case: tuple[Tensor, Comparison]) -> None:
    image, view = case
    figure = map_grid(image, view, metric="kl_divergence", columns=5)
    maps = [(method, kind) for method, kinds in view.maps.items() for kind in kinds]
    assert len(figure.axes) == 3 * (2 + len(maps))
    assert len({round(axes.get_position().x0, 4) for axes in figure.axes}) == 5
    said = texts(figure)
    for heading in ("photo", "l2 control", "contribution g·d", "centred Gaussian", "SmoothGrad", "image 2"):
        assert heading in said
    assert said.count("Grad-CAM") == 2  # the map compared with, and itself as an attribution
    assert any("its KL divergence with Grad-CAM" in text for text in said)


@pytest.mark.parametrize("columns", [4, 7])
def test_no_text_lies_over_another(case: tuple[Tensor, Comparison], columns: int) -> None:
    image, view = case
    check_texts(map_grid(image, view, names=NAMES, columns=columns))


def test_images_keep_their_shape(case: tuple[Tensor, Comparison]) -> None:
    model, image = SmallClassifier(), example_images(1, size=32)[..., :24, :]
    view = compare(model, image, example_result(model, image, name="ours"), control=None, shifts=0)
    figure = map_grid(image, view, metric=None)
    width, height = figure.get_size_inches()
    for axes in figure.axes:
        box = axes.get_position()
        assert box.height * height / (box.width * width) == pytest.approx(24 / 32)
    assert "Below each map" not in "".join(texts(figure))


def test_errors_name_the_value(case: tuple[Tensor, Comparison]) -> None:
    image, view = case
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"images": [3]}, "image 3 is not in the batch; it has images 0 to 2"),
        ({"images": []}, "at least one image, got none"),
        ({"names": ["a"]}, "names must be given for each of the 3 images"),
        ({"maps": [("ours", "rms")]}, r"map \('ours', 'rms'\) was not compared"),
        ({"metric": "pearsn"}, "unknown metric 'pearsn'; did you mean pearson"),
        ({"columns": 1}, "columns must be an integer of at least 2, got 1"),
    ]
    for options, message in wrong:
        with pytest.raises(InputError, match=message):
            map_grid(image, view, **options)
    with pytest.raises(InputError, match="only grey and RGB images"):
        map_grid(image[:, :2], view)
    with pytest.raises(InputError, match=r"the comparison is of \(3, 32, 32\) pixels"):
        map_grid(image[:2], view)
