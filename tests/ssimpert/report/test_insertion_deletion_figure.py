"""The curves' figure draws mean curves, bootstrap bands and intervals of the curves that it is given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from ssimpert.analysis import bootstrap_interval, compare
from ssimpert.analysis.faithfulness.curve import Kind, PixelCurve
from ssimpert.errors import InputError
from ssimpert.report import comparison_curves, insertion_deletion_figure
from tests.ssimpert.analysis.example import WithMean, example_images, example_result
from tests.ssimpert.report.shown import check_texts

Both = dict[Kind, PixelCurve]


def curve(kind: Kind, count: int = 6, *, seed: int = 0, missing: int = 0) -> PixelCurve:
    scores = torch.rand(count, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scores[count - missing :] = float("nan")
    return PixelCurve(
        kind=kind,
        scores=scores,
        fractions=torch.linspace(0, 1, 9, dtype=torch.float64),
        auc=(scores.sum(dim=1) - scores[:, 0] / 2 - scores[:, -1] / 2) / 8,
        target=torch.zeros(count, dtype=torch.int64),
        reasons=(None,) * (count - missing) + ("the map is constant",) * missing,
    )


def example(count: int = 6, missing: int = 0) -> dict[str, Both]:
    return {
        "rms of d": {"insertion": curve("insertion", count), "deletion": curve("deletion", count, seed=1)},
        "centred Gaussian": {
            "insertion": curve("insertion", count, seed=2, missing=missing),
            "deletion": curve("deletion", count, seed=3, missing=missing),
        },
    }


def labels(figure: Figure, panel: int) -> list[str]:
    return [text.get_text() for text in figure.axes[panel].get_legend().get_texts()]


def test_lines_are_means_and_bands_are_intervals_at_every_step() -> None:
    curves = example(missing=2)
    figure = insertion_deletion_figure(curves, controls=["centred Gaussian"], resamples=500, seed=3)
    for panel, kind in enumerate(("insertion", "deletion")):
        axes = figure.axes[panel]
        assert len(axes.lines) == len(axes.collections) == 2
        for line, band, both in zip(axes.lines, axes.collections, curves.values(), strict=True):
            scores = both[kind].scores.numpy()  # type: ignore[index]
            scores = scores[~np.isnan(scores).any(axis=1)]
            assert np.allclose(line.get_ydata(), scores.mean(axis=0))
            assert np.allclose(line.get_xdata(), np.linspace(0, 1, 9))
            drawn = band.get_paths()[0].vertices
            for step in range(9):
                interval = bootstrap_interval(scores[:, step], resamples=500, seed=3)
                for bound in (interval.low, interval.high):
                    assert np.abs(drawn - [step / 8, bound]).sum(axis=1).min() < 1e-9
        assert axes.lines[0].get_linestyle() == "-"
        assert axes.lines[1].get_linestyle() != "-"


def test_the_legend_has_the_auc_its_interval_and_the_images_left() -> None:
    curves = example(missing=2)
    figure = insertion_deletion_figure(curves)
    auc = curves["rms of d"]["insertion"].auc.numpy()
    interval = bootstrap_interval(auc, resamples=2000)
    assert labels(figure, 0)[0] == f"rms of d: {auc.mean():.3f} [{interval.low:.3f}, {interval.high:.3f}]"
    kept = curves["centred Gaussian"]["deletion"].auc.numpy()[:4]
    assert labels(figure, 1)[1].startswith(f"centred Gaussian: {kept.mean():.3f} [")
    assert labels(figure, 1)[1].endswith("], n = 4")
    assert figure.axes[0].get_legend().get_title().get_text() == "AUC [95% interval]"


def test_clusters_are_resampled_whole() -> None:
    curves, clusters = example(), list("aabbcc")
    auc = curves["rms of d"]["deletion"].auc.numpy()
    interval = bootstrap_interval(auc, clusters=clusters, resamples=2000)
    figure = insertion_deletion_figure(curves, clusters=clusters)
    assert labels(figure, 1)[0] == f"rms of d: {auc.mean():.3f} [{interval.low:.3f}, {interval.high:.3f}]"
    third = curves["rms of d"]["deletion"].scores[:, 3].numpy()
    interval = bootstrap_interval(third, clusters=clusters, resamples=2000)
    drawn = figure.axes[1].collections[0].get_paths()[0].vertices
    for bound in (interval.low, interval.high):
        assert np.abs(drawn - [3 / 8, bound]).sum(axis=1).min() < 1e-9


def test_a_single_image_has_lines_without_bands_and_maps_without_curves_are_said_so() -> None:
    figure = insertion_deletion_figure(example(count=1, missing=1))
    assert [len(axes.collections) for axes in figure.axes] == [0, 0]
    auc = float(curve("insertion", 1).auc)
    assert labels(figure, 0) == [f"rms of d: {auc:.3f}", "centred Gaussian: no image has a curve"]


def test_no_text_lies_over_another_and_lines_differ_without_hue() -> None:
    model, image = WithMean(), example_images(2)
    ours = example_result(model, image, name="GlobalSSIM e = 0.005, re-centred")
    control = example_result(model, image, name="l2 control", step=0.03, seed=1)
    view = compare(model, image, ours, control=control, insertion_deletion=128, shifts=0, attributions=["gradient"])
    curves = comparison_curves(view)
    assert len(curves) == 3 + 3 + 4 + 1
    assert curves["l2 control, 1 \N{MINUS SIGN} SSIM"] is view.scores["l2 control"]["ssim"].curves
    figure = insertion_deletion_figure(curves, bands=False, controls=[name for name in curves if name.startswith("l2")])
    check_texts(figure)
    assert len(figure.axes[0].collections) == 0
    styles = {(line.get_marker(), str(line._dash_pattern)) for line in figure.axes[0].lines}
    assert len(styles) == len(curves)


def test_errors_name_the_value() -> None:
    curves = example()
    with pytest.raises(InputError, match="no curves to draw"):
        insertion_deletion_figure({})
    with pytest.raises(InputError, match="unknown control 'gauss'"):
        insertion_deletion_figure(curves, controls=["gauss"])
    with pytest.raises(InputError, match="a label for each of the 6 images, got 2"):
        insertion_deletion_figure(curves, clusters=["a", "b"])
    with pytest.raises(InputError, match=r"of the same images, got \[5, 6\]"):
        insertion_deletion_figure(curves | {"other": example(5)["rms of d"]})
    with pytest.raises(InputError, match="'half' has no deletion curve; it has insertion"):
        insertion_deletion_figure({"half": {"insertion": curve("insertion")}})
