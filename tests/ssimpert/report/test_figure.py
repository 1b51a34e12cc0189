"""The comparison figure: what it says, what it draws, and how it is written."""
# ruff: noqa: RUF001 - the minus and multiplication signs are those in the figure

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from torch import Tensor

from ssimpert.analysis.comparison.compare import compare
from ssimpert.analysis.comparison.result import Comparison
from ssimpert.display_scales import amplification
from ssimpert.errors import InputError
from ssimpert.report.figure import comparison_figure, save_figure
from tests.ssimpert.analysis.example import CLASSES, SmallClassifier, example_images, example_result

Case = tuple[Tensor, Any, Comparison]


def make_case(channels: int = 3, *, control: bool = True) -> Case:
    model, image = SmallClassifier(channels), example_images(channels=channels)
    ours = example_result(model, image, name="GlobalSSIM e = 0.005, re-centred")
    other = example_result(model, image, name="l2 control", step=0.03, seed=1) if control else None
    return image, ours, compare(model, image, ours, control=other)


@pytest.fixture(scope="module")
def case() -> Case:
    return make_case()


@pytest.fixture(scope="module")
def figure(case: Case) -> Figure:
    """Of image 0: no test changes it."""
    return comparison_figure(*case)


@pytest.fixture(scope="module")
def second(case: Case) -> Figure:
    """Of image 1: no test changes it."""
    return comparison_figure(*case, index=1)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def axes_titled(figure: Figure, start: str) -> Any:
    (found,) = [axes for axes in all_axes(figure) if axes.get_title().startswith(start)]
    return found


def all_axes(figure: Any) -> list[Any]:
    return list(dict.fromkeys([*figure.axes, *(a for part in figure.subfigs for a in all_axes(part))]))


def test_titles_carry_labels_margins_and_the_amplification(case: Case) -> None:
    image, result, comparison = case
    said = "\n".join(texts(comparison_figure(image, result, comparison, 1, CLASSES)))
    before, after = (CLASSES[int(v[1])].split(",")[0] for v in (result.label_before, result.label_after))
    assert f"Photo: {before}" in said
    assert f"Perturbed: {after}" in said
    assert f"Grad-CAM: {before}" in said
    for value in (result.margin_before[1], result.margin_after[1]):
        assert f"margin {float(value):+.2f}".replace("-", "−") in said
    factor = amplification((result.adversarial[1] - image[1]).numpy())
    assert f"amplified ×{factor:g}" in said
    assert factor > 1
    assert "mean SSIM 0.9990,  least window 0.9000" in said
    assert "GlobalSSIM e = 0.005, re-centred" in said
    assert "l2 control" in said
    assert "n/a" not in said


def test_another_class_activation_map_is_called_by_its_name() -> None:
    model, image = SmallClassifier(), example_images()
    result = example_result(model, image, name="ours")
    said = texts(comparison_figure(image, result, compare(model, image, result, control=None, cam="layer_cam")))
    assert "Agreement with LayerCAM" in said
    assert any(text.startswith("LayerCAM: ") for text in said)
    assert not any("Grad-CAM" in text for text in said)


def test_class_numbers_stand_in_for_missing_labels(case: Case, figure: Figure) -> None:
    _, result, _ = case
    assert f"Photo: class {int(result.label_before[0])}" in texts(figure)


def test_pictures_show_the_data(case: Case, second: Figure) -> None:
    image, result, comparison = case

    def drawn(start: str, layer: int = 0) -> np.ndarray:
        return np.asarray(axes_titled(second, start).images[layer].get_array(), dtype=float)

    clean = image[1].permute(1, 2, 0).double().numpy()
    delta = (result.adversarial[1].double() - image[1].double()).permute(1, 2, 0).numpy()
    assert np.allclose(drawn("Photo"), clean)
    assert np.allclose(drawn("Perturbed"), clean + delta)
    factor = amplification(delta)
    assert np.allclose(drawn("Perturbation"), np.clip(0.5 + factor * delta, 0, 1))
    assert np.allclose(drawn("Grad-CAM", 1), comparison.cam[1])
    maps = comparison.maps[comparison.perturbation]
    assert np.allclose(drawn("1 − SSIM"), maps["ssim"][1])
    assert np.allclose(drawn("rms"), maps["rms"][1])


@pytest.mark.parametrize(("title", "metric"), [("Pearson", "pearson"), ("Spearman", "spearman"), ("IoU", "top20_iou")])
def test_bars_are_the_records(case: Case, second: Figure, title: str, metric: str) -> None:
    _, _, comparison = case
    axes = axes_titled(second, title)
    shown = ("GlobalSSIM e = 0.005, re-centred", "l2 control", "gradient magnitude", "local std")
    rows = [row for row in comparison.records if row["image"] == 1 and row["perturbation"] in shown]
    expected = [row[metric] for row in rows]  # type: ignore[literal-required]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(expected)
    assert [text.get_text() for text in axes.texts] == [f"{v:.2f}".replace("-", "−") for v in expected]
    low, high = axes.get_xlim()
    assert low <= min(expected)
    assert max(expected) < high
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert len(set(colours[:3])) == len(set(colours[3:6])) == len(set(colours[6:])) == 1
    assert len(set(colours)) == 3


def luminance(colour: tuple[float, ...]) -> float:
    return float(np.dot(colour[:3], [0.2126, 0.7152, 0.0722]))


def test_bars_can_be_told_apart_without_hue(figure: Figure) -> None:
    axes = axes_titled(figure, "Pearson")
    greys = sorted({luminance(bar.get_facecolor()) for bar in axes.patches})
    assert min(np.diff(greys)) > 0.15


@pytest.mark.parametrize("control", [True, False])
def test_nothing_is_cut_off_or_overlaps_at_1200_pixels(control: bool, case: Case, tmp_path: Path) -> None:
    image, result, comparison = case if control else make_case(control=False)
    figure = comparison_figure(image, result, comparison, 0, CLASSES)
    save_figure(figure, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.size[0] == 1200
        assert picture.size[1] <= 1300
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    shown = [text for part in figure.subfigs for text in part.texts]
    shown += [text for axes in all_axes(figure) for text in (axes.title, *axes.texts)]
    boxes = [(text, text.get_window_extent(renderer)) for text in shown if text.get_text()]
    assert len(boxes) > 30
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.x1 <= 1200, text
        assert box.y0 >= 0, text
        assert box.y1 <= figure.bbox.height - 4, text
    titles = [(t, b) for t, b in boxes if t.get_fontweight() == "bold" or t.get_text().startswith("margin")]
    for index, (first, a) in enumerate(titles):
        for second, b in titles[index + 1 :]:
            assert not a.overlaps(b), (first, second)
    # 9.5 points are 13 pixels at 1200 pixels' width
    assert min(t.get_fontsize() for t, _ in boxes) >= 9.5


def test_constant_maps_are_drawn_and_marked() -> None:
    model, image = SmallClassifier(), example_images()
    result = example_result(model, image, name="nothing", step=0.0)
    comparison = compare(model, image, result, control=None)
    comparison.cam[0] = 0.0
    for index in (0, 1):
        figure = comparison_figure(image, result, comparison, index)
        figure.canvas.draw()
        said = texts(figure)
        assert said.count("n/a") == 9  # three maps of no perturbation, three metrics
        assert any("n/a: Grad-CAM or the map is constant" in text for text in said)
    comparison.maps["nothing"]["rms"][1] = float("nan")
    comparison.cam[1] = float("nan")
    comparison_figure(image, result, comparison, 1).canvas.draw()


def test_grey_images_are_drawn_and_others_refused() -> None:
    image, result, comparison = make_case(1)
    figure = comparison_figure(image, result, comparison)
    drawn = axes_titled(figure, "Photo").images[0].get_array()
    assert drawn.shape == (32, 32, 3)
    image, result, comparison = make_case(2)
    with pytest.raises(InputError, match="only grey and RGB images can be drawn, got 2 channels"):
        comparison_figure(image, result, comparison)


def test_the_global_state_of_matplotlib_is_left_alone(case: Case, tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    save_figure(comparison_figure(*case), tmp_path / "figure.svg")
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("ending", "start", "date"),
    [("png", b"\x89PNG", b"Date"), ("SVG", b"<?xml", b"dc:date"), ("pdf", b"%PDF", b"CreationDate")],
)
def test_the_ending_decides_the_format_and_no_date_is_written(
    figure: Figure, tmp_path: Path, ending: str, start: bytes, date: bytes
) -> None:
    save_figure(figure, tmp_path / f"figure.{ending}")
    content = (tmp_path / f"figure.{ending}").read_bytes()
    assert content.startswith(start)
    assert date not in content


def test_the_same_figure_gives_the_same_picture(case: Case, tmp_path: Path) -> None:
    pictures = []
    for name in "ab":
        save_figure(comparison_figure(*case), tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as picture:
            pictures.append(np.asarray(picture, dtype=float))
    assert np.abs(pictures[0] - pictures[1]).mean() < 0.01


def test_an_unwritable_path_is_one_line(figure: Figure, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "missing" / "figure.png", tmp_path / "file" / "figure.png"):
        with pytest.raises(InputError, match=r"can't write figure .*figure\.png") as caught:
            save_figure(figure, path)
        assert "\n" not in str(caught.value)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match=r"can't write figure .*folder\.png': Is a directory"):
        save_figure(figure, tmp_path / "folder.png")
    for name in ("figure.jpg", "figure"):
        with pytest.raises(InputError, match=r"must end in \.png, \.svg, \.pdf"):
            save_figure(figure, tmp_path / name)


@pytest.mark.parametrize("index", [-1, 2, True, "0"])
def test_an_image_outside_the_batch_is_refused(case: Case, index: object) -> None:
    with pytest.raises(InputError, match=r"not in the batch; it has images 0 to 1"):
        comparison_figure(*case, index=index)  # type: ignore[arg-type]


def test_amplification_is_a_round_number_that_fills_the_range() -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, (3, 50, 50))
    for scale in (1e-6, 0.003, 0.0049, 0.0051, 0.03, 1.0):
        factor = amplification(scale * noise)
        mantissa = factor / 10 ** math.floor(math.log10(factor) + 1e-9)
        assert min(abs(mantissa - step) for step in (1, 2, 5)) < 1e-9
        large = factor * np.percentile(np.abs(scale * noise), 99.5)
        assert 0.19 < large <= 0.5 + 1e-9
    assert amplification(np.zeros(5)) == 1.0
    assert amplification(np.array([np.nan, 1.0])) == 1.0


def test_results_on_another_dtype_are_drawn(case: Case) -> None:
    image, result, comparison = case
    comparison_figure(image.to(torch.float64), result, comparison).canvas.draw()
