"""Figures: a perturbation compared with Grad-CAM, and the margin that levels buy."""

from ssimpert.report.figure import comparison_figure, save_figure
from ssimpert.report.margin_figure import margin_figure

__all__ = ["comparison_figure", "margin_figure", "save_figure"]
