"""Figures of studies: what is drawn, where, and that lines differ without colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from ssimpert.errors import InputError
from ssimpert.report import save_figure
from ssimpert.report.study_plot import study_figure
from ssimpert.study.outputs.results import StudyResults
from tests.ssimpert.study.outputs.synthetic_results import cell, results_of, score, unit


def results(*, images: int = 5, missing: int = 0, models: tuple[str, ...] = ("a", "b")) -> StudyResults:
    columns = [cell("windows", 0.9), cell("windows", 0.99), cell("ball", 0.5, "radius"), cell("ball", 2.0, "radius"),
               cell("least", None)]  # fmt: skip
    generator = np.random.default_rng(4)
    made = [
        unit(names, f"photo{i}", model=model, ssim=0.9 + k / 60 + generator.uniform() / 300,
             scores=[score("rms", "pearson", generator.uniform())])
        for model in models for k, names in enumerate(columns) for i in range(images)
    ]  # fmt: skip
    return results_of(made, missing=missing)


def drawn(figure: Figure) -> list[tuple[str, str]]:
    """The title and the axis of each panel."""
    return [(axes.get_title(), axes.get_xlabel()) for axes in figure.axes if axes.get_visible()]


def words(figure: Figure) -> str:
    return " ".join(figure.get_suptitle().split())


def test_against_the_level_every_family_has_an_axis_of_its_own() -> None:
    figure = study_figure(results(), "rms.pearson")
    assert drawn(figure) == [("windows", "threshold"), ("ball", "radius")]
    for axes in figure.axes:
        assert [line.get_label() for line in axes.get_lines()] == ["a", "b"]
    assert figure.axes[1].get_lines()[0].get_xdata().tolist() == [0.5, 2.0]  # type: ignore[union-attr]
    assert figure.axes[0].get_ylabel() == "pearson of rms"
    assert "Not drawn, for want of levels or numbers: least." in words(figure)


def test_against_a_distance_families_share_an_axis_and_end_at_their_last_level() -> None:
    found = results(models=("a",))
    figure = study_figure(found, "rms.pearson", against="one_minus_ssim")
    assert drawn(figure) == [("a", "1 - mean SSIM (Gaussian 11)")]
    frame = found.records.select(["formulation", "level", "ssim"]).to_pandas()
    for line in figure.axes[0].get_lines():
        of_family = frame[frame["formulation"] == line.get_label()]
        places = 1 - of_family.groupby("level", dropna=False)["ssim"].mean()
        assert np.asarray(line.get_xdata()) == pytest.approx(np.sort(places))
    for band in figure.axes[0].collections:
        places_of_band = np.concatenate([path.vertices[:, 0] for path in band.get_paths()])  # type: ignore[index]
        assert places_of_band.min() >= 1 - frame["ssim"].max()
        assert places_of_band.max() <= 1 - frame["ssim"].min()


def test_lines_differ_in_marker_or_dashes_without_colour() -> None:
    figure = study_figure(results(), "rms.pearson")
    styles = {(line.get_marker(), line.get_linestyle()) for line in figure.axes[0].get_lines()}
    assert len(styles) == 2


def test_a_partial_study_says_so_first() -> None:
    assert words(study_figure(results(missing=3), "rms.pearson")).startswith("PARTIAL: 53 units declared, 50 done")
    assert words(study_figure(results(), "rms.pearson")).startswith("synthetic: means over 5 images")


def test_one_image_says_that_there_is_no_interval() -> None:
    assert "A single image has no interval." in words(study_figure(results(images=1), "rms.pearson"))


def test_a_name_is_drawn_as_it_stands() -> None:
    made = [unit(cell("$x_1$", level), f"photo{i}", ssim=0.5) for level in (1.0, 2.0) for i in range(2)]
    assert study_figure(results_of(made), "ssim").axes[0].get_title() == r"\$x_1\$"


@pytest.mark.parametrize("ending", [".svg", ".pdf", ".png"])
def test_a_figure_of_a_column_width_is_written(ending: str, tmp_path: Path) -> None:
    figure = study_figure(results(), "rms.pearson", width=3.5)
    assert figure.get_figwidth() == 3.5
    assert len({axes.get_position().x0 for axes in figure.axes}) == 1  # panels below one another
    save_figure(figure, tmp_path / f"figure{ending}")
    assert (tmp_path / f"figure{ending}").stat().st_size > 1000


@pytest.mark.parametrize("width", [2.0, float("nan"), "wide"])
def test_a_width_that_is_none_is_refused(width: float) -> None:
    with pytest.raises(InputError, match="width must be"):
        study_figure(results(), "rms.pearson", width=width)


def test_an_unknown_value_is_named() -> None:
    with pytest.raises(InputError, match=r"did you mean rms.pearson"):
        study_figure(results(), "rms.person")
