"""The names of the formulations, and of the choices within them."""

from __future__ import annotations

from enum import StrEnum


class ConstraintName(StrEnum):
    """The constraint sets."""

    GLOBAL_SSIM = "global-ssim"
    WINDOW_SSIM = "window-ssim"
    PRODUCT_SSIM = "product-ssim"
    MEAN_SSIM = "mean-ssim"
    L2 = "l2"
    LINF = "linf"
    L1 = "l1"
    FEATURE_BALL = "feature-ball"


class BallMethod(StrEnum):
    """The methods that are a formulation of their own, with no engine and no other set."""

    PENALISED = "perceptual-ball"
    CONSTRAINED = "perceptual-ball-constrained"


class NormalizationName(StrEnum):
    """How feature maps are scaled; see :func:`ssimpert.deep_features`."""

    UNIT_CHANNEL = "unit-channel"
    MSE = "mse"
    NONE = "none"


class MarginTermName(StrEnum):
    """What the penalised perceptual ball adds for a margin that is not the one wanted."""

    EQUALITY = "equality"
    HINGE = "hinge"


# A formulation is a set, or a method that has no set or its own.
Formulation = ConstraintName | BallMethod
