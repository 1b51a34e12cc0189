"""Does a map find the object? The pointing game, thresholded boxes, MaxBoxAcc, masks."""

from ssimpert.analysis.localization.max_box_acc import MaxBoxAcc, max_box_acc
from ssimpert.analysis.localization.pointing_game import (
    centre_points,
    chance_of_hit,
    difficult_pairs,
    point_game,
    pointing_game,
)
from ssimpert.analysis.localization.pointing_result import PointingResult
from ssimpert.analysis.localization.thresholded_boxes import ThresholdedBoxes, thresholded_boxes

__all__ = [
    "MaxBoxAcc",
    "PointingResult",
    "ThresholdedBoxes",
    "centre_points",
    "chance_of_hit",
    "difficult_pairs",
    "max_box_acc",
    "point_game",
    "pointing_game",
    "thresholded_boxes",
]
