"""Figures of a perturbation and its comparison with Grad-CAM."""

from ssimpert.report.figure import comparison_figure, save_figure

__all__ = ["comparison_figure", "save_figure"]
