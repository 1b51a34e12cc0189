"""One photo of a report: its pictures hold its pixels, and its words its numbers and conditions."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ssimpert.errors import InputError
from ssimpert.metrics import ssim_map
from ssimpert.report.html.photo_view import photo_view
from ssimpert.report.html.pictures import COMPRESSIONS, bytes_of_a_photo, photo_picture
from ssimpert.report.html.result_folder import read_result_folder
from ssimpert.report.html.view import PhotoView, Picture
from tests.ssimpert.report.html.small_results import CONDITIONS, SIDE, find_photo, perturbed_of, photo_of, write_photo


def viewed(folder: Path, find: Any = find_photo, **changes: Any) -> PhotoView:
    write_photo(folder, 1, "a.png", **changes)
    (stored,) = read_result_folder(folder).photos
    view, _ = photo_view(stored, "photo-1", find, bytes_of_a_photo(1))
    return view


def pixels_of(picture: Picture | None) -> np.ndarray[Any, Any]:
    assert picture is not None
    head, content = picture.uri.split(",")
    assert head == "data:image/webp;base64"
    found = np.asarray(Image.open(BytesIO(base64.b64decode(content))).convert("RGB"), dtype=float)
    assert found.shape == (picture.height, picture.width, 3)
    return found


def test_photo_and_perturbed_photo_are_exact_to_8_bits(tmp_path: Path) -> None:
    view = viewed(tmp_path)
    for picture, image in ((view.photo, photo_of(1)), (view.perturbed, perturbed_of(1))):
        assert np.array_equal(pixels_of(picture), np.rint(image[0].permute(1, 2, 0).numpy() * 255))


def test_pictures_are_compressed_no_further_than_their_room_asks_for(tmp_path: Path) -> None:
    write_photo(tmp_path, 1, "a.png")
    (stored,) = read_result_folder(tmp_path).photos
    exact, compression = photo_view(stored, "photo-1", find_photo, 10**6)
    assert compression == COMPRESSIONS[0]
    assert "are exact to 8 bits" in compression.words()
    size = sum(len(str(picture)) for picture in (exact.photo, exact.perturbed, exact.difference, *exact.layers))
    _, less_room = photo_view(stored, "photo-1", find_photo, size // 4)
    assert less_room in COMPRESSIONS[1:]
    assert "compressed with loss" in less_room.words()
    _, no_room = photo_view(stored, "photo-1", find_photo, 1)
    assert no_room == COMPRESSIONS[-1]


def test_coarser_pictures_are_smaller_and_still_the_same_picture() -> None:
    generator = np.random.default_rng(0)
    pixels = np.kron(generator.random((4, 4, 3)), np.ones((8, 8, 1))) * 0.8 + 0.2 * generator.random((32, 32, 3))
    pictures = [photo_picture(pixels, "", compression) for compression in COMPRESSIONS]
    sizes = [len(picture.uri) for picture in pictures]
    assert sizes == sorted(sizes, reverse=True)
    for picture in pictures:
        assert np.abs(pixels_of(picture) - pixels * 255).mean() < 25


def test_the_difference_is_grey_where_nothing_changed_and_amplified_elsewhere(tmp_path: Path) -> None:
    difference = viewed(tmp_path).difference
    assert difference is not None
    assert difference.factor == 2  # 40 grey levels are 0.157; 2 is the largest of 1, 2, 5, ... that keeps 0.5
    assert difference.levels == (1, 2)
    wanted = 127.5 + 2 * np.array([-40.0, 0.0, 40.0])
    assert np.abs(pixels_of(difference.picture) - wanted).max() <= 1


def test_maps_of_a_comparison_are_layers_with_their_names_and_ranges(tmp_path: Path) -> None:
    layers = viewed(tmp_path).layers
    assert [layer.name for layer in layers] == [
        "Grad-CAM",
        "WindowSSIM, rms of d",
        "local std of the photo",
        "perturbation \u00d72",
    ]
    cam = pixels_of(layers[0].picture)
    assert np.abs(cam[0].mean(axis=0) - [68, 1, 84]).max() < 25  # viridis at 0
    assert np.abs(cam[-1].mean(axis=0) - [253, 231, 37]).max() < 25  # and at 1
    assert [layer.low for layer in layers[:3]] == ["0"] * 3
    assert layers[1].high == "0.999 of the pixel range"
    assert layers[3].high == "0.25"


def test_without_stored_maps_rms_and_ssim_are_made_from_the_photos(tmp_path: Path) -> None:
    layers = viewed(tmp_path, files=["adversarial.npy", "adversarial.png"]).layers
    assert [layer.name for layer in layers] == ["rms of d", "1 \u2212 SSIM", "perturbation \u00d72"]
    index = ssim_map(photo_of(1), perturbed_of(1), data_range=1.0)
    assert float(layers[1].high) == pytest.approx(1 - float(index.mean()), rel=0.02)


def test_a_photo_that_is_gone_leaves_the_rest_and_a_reason(tmp_path: Path) -> None:
    def gone(record: dict[str, Any], size: int) -> Tensor:
        raise InputError("no file 'a.png'")

    view = viewed(tmp_path, gone)
    assert view.photo is None
    assert view.difference is None
    assert view.perturbed is not None
    assert [layer.name for layer in view.layers] == ["Grad-CAM", "WindowSSIM, rms of d", "local std of the photo"]
    assert view.warnings == ("The clean photo is not shown, nor what is made from it: no file 'a.png'.",)


def test_a_photo_of_another_size_is_not_shown(tmp_path: Path) -> None:
    view = viewed(tmp_path, lambda record, size: torch.zeros(1, 3, SIDE, SIDE + 1))
    assert view.photo is None
    assert "shape" in view.warnings[0]


def test_numbers_have_units_and_missing_numbers_a_dash(tmp_path: Path) -> None:
    facts = {fact.name: fact.text for table in viewed(tmp_path).facts for fact in table.facts}
    assert facts["margin before"] == "\u22121 logits"
    assert facts["l2 norm"] == "2 of the pixel range"
    assert facts["least SSIM of a window (uniform 8x8, stride 1)"] == "0.950000"
    assert facts["excess over the set"] == "\u2013"
    assert facts["time"] == "1.5 s"


def test_every_plot_names_the_set_its_windows_and_the_steps(tmp_path: Path) -> None:
    plots = viewed(tmp_path).plots
    assert [plot.title for plot in plots] == ["Margin over steps", "Convergence of the solver"]
    for plot in plots:
        assert plot.caption.endswith(f"Set and steps: {CONDITIONS}.")


def test_the_solvers_bound_and_objective_stand_against_its_time(tmp_path: Path) -> None:
    plot = viewed(tmp_path).plots[1]
    objective, bound = plot.lines
    assert objective.points[:2] == ((0.1, 1.0), (0.2, 1.4))
    assert bound.points[:2] == ((0.1, 2.0), (0.2, 1.5))
    assert bound.dashed


def test_steps_that_begin_anew_are_told_apart(tmp_path: Path) -> None:
    rows = [{"step": step, "margin": margin} for step, margin in ((1, -0.5), (2, 0.1), (1, -0.3), (2, 0.2))]
    (plot,) = viewed(tmp_path, history=rows).plots
    (line,) = plot.lines
    xs = [x for x, y in line.points if y == y]
    assert xs == [0, 1, 2, 3, 4]
    assert plot.marks == (2.5,)


def test_a_record_without_conditions_says_that_they_are_missing(tmp_path: Path) -> None:
    assert viewed(tmp_path, conditions=None).conditions == "the set and the steps were not recorded"
