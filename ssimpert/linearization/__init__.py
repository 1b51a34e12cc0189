"""The decision, linearised: margins and their gradients, deep features and their Jacobian."""

from ssimpert.linearization.features import Features, deep_features, default_layers
from ssimpert.linearization.gradient import Linearization, forward, linearize
from ssimpert.linearization.jacobian import FeatureJacobian, feature_jacobian, operator_norm
from ssimpert.linearization.margins import Margin, Membership, Targeted, Untargeted

__all__ = [
    "FeatureJacobian",
    "Features",
    "Linearization",
    "Margin",
    "Membership",
    "Targeted",
    "Untargeted",
    "deep_features",
    "default_layers",
    "feature_jacobian",
    "forward",
    "linearize",
    "operator_norm",
]
