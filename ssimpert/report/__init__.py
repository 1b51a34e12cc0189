"""Figures of a perturbation, of its comparison with class activation maps, and of statistics over images.

Found here: one figure for one image (``figure``), all maps of all images (``map_grid``), curves (``margin_figure``,
``convergence_figure``, ``insertion_deletion_figure``, ``agreement_against_level``), paired differences
(``forest_plot``), a comparison's files (``comparison_files``), and what all figures share (``drawing``,
``figure_style``, ``names``). Every figure takes ``width="column"`` or ``width="page"`` for a paper.
"""

from ssimpert.report.agreement_against_level import agreement_against_level_figure
from ssimpert.report.comparison_files import save_comparison
from ssimpert.report.convergence_figure import convergence_figure
from ssimpert.report.figure import comparison_figure, save_figure
from ssimpert.report.forest_plot import forest_plot
from ssimpert.report.insertion_deletion_figure import comparison_curves, insertion_deletion_figure
from ssimpert.report.map_grid import map_grid
from ssimpert.report.margin_figure import margin_figure

__all__ = [
    "agreement_against_level_figure",
    "comparison_curves",
    "comparison_figure",
    "convergence_figure",
    "forest_plot",
    "insertion_deletion_figure",
    "map_grid",
    "margin_figure",
    "save_comparison",
    "save_figure",
]
