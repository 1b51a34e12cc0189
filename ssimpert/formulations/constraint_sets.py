"""From the options of a set to the set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ssimpert.formulations.feature_balls import FeatureBallSet, feature_ball_set
from ssimpert.formulations.names import ConstraintName
from ssimpert.formulations.options import LP_ORDER

if TYPE_CHECKING:
    from solvers.constraints import Constraint


def build_constraint(name: ConstraintName, values: Mapping[str, Any]) -> Constraint | FeatureBallSet:
    """The set called ``name``.

    Args:
        name: the set.
        values: one for each of the set's options (:data:`ssimpert.formulations.options.OPTIONS`): numbers, and
            ``None`` for "none".

    Raises:
        OptionFault, solvers.ProblemError: a value out of range; the message names the option.
    """
    if name is ConstraintName.FEATURE_BALL:
        return feature_ball_set(values)
    import solvers  # here and not above, since it loads torch, which --help does not need

    if name is ConstraintName.GLOBAL_SSIM:
        return solvers.GlobalSSIM(values["distance"])
    if name in LP_ORDER:
        return solvers.LpBall(LP_ORDER[name], float(values["radius"]))
    window = solvers.Window(values["window_size"], values["stride"], values["border"], values["sigma"])
    if name is ConstraintName.WINDOW_SSIM:
        return solvers.WindowSSIM(values["threshold"], window, luminance=values["luminance"])
    if name is ConstraintName.PRODUCT_SSIM:
        return solvers.ProductSSIM(values["threshold"], window)
    return solvers.MeanSSIM(values["threshold"], window, luminance=values["luminance"])
