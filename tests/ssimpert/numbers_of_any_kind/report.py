"""Calls that draw figures."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from matplotlib.figure import Figure

import solvers
from ssimpert import analysis, report
from tests.ssimpert.numbers_of_any_kind.inputs import Calls, comparison, image, perturbed, tabled


def curves() -> Any:
    from ssimpert.report.insertion_deletion_figure import comparison_curves

    return {name: pair for name, pair in comparison_curves(comparison()).items() if "local std" in name}


def checked() -> dict[str, solvers.History]:
    rows = [solvers.HistoryRow(k, 0.5 + k, (1.0, 2.0), (3.0 - k, 2.5), (0.5, 0.25)) for k in range(2)]
    return {"a": solvers.History(rows)}


def saved(**options: Any) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "figure.png"
        report.save_figure(Figure((1, 1)), path, **options)
        return path.read_bytes()


CALLS: Calls = {
    "ssimpert.report.agreement_against_level_figure": (
        lambda **o: report.agreement_against_level_figure(tabled(), **({"resamples": 20} | o)),
        {"confidence": 0.75, "resamples": 30, "seed": 3, "width": 7.0},
    ),
    "ssimpert.report.comparison_figure": (
        lambda **o: report.comparison_figure(image(), perturbed(), comparison(), **o),
        {"index": 1, "width": 7.0},
    ),
    "ssimpert.report.convergence_figure": (
        lambda **o: report.convergence_figure(checked(), **o),
        {"image": 1, "width": 7.0},
    ),
    "ssimpert.report.forest_plot": (
        lambda **o: report.forest_plot(analysis.paired_differences(tabled(), ["local std"], resamples=20), **o),
        {"level": 0.25, "width": 7.0},
    ),
    "ssimpert.report.insertion_deletion_figure": (
        lambda **o: report.insertion_deletion_figure(curves(), **({"resamples": 20} | o)),
        {"clusters": (1, 2), "confidence": 0.75, "resamples": 30, "seed": 3, "width": 7.0},
    ),
    "ssimpert.report.map_grid": (
        lambda **o: report.map_grid(image(), comparison(), maps=[("local std", "local_std")], **o),
        {"images": (1,), "columns": 2, "width": 7.0},
    ),
    "ssimpert.report.margin_figure": (
        lambda **o: report.margin_figure(**({"levels": (0.5, 1.0), "margins": (-1.0, 0.5)} | o)),
        {"levels": (0.25, 2.0), "margins": (0.5, 0.75), "least": 0.75, "width": 7.0},
    ),
    "ssimpert.report.save_figure": (lambda **o: saved(**o), {"dpi": 50.0}),
}
