"""The decision, linearised: margins and their gradients, deep features and their Jacobian.

Found here: what "changing the decision" means (``margins``), a margin's value and gradient (``gradient``), the features
of named layers (``deep_features``), and products with their derivative (``jacobian``).
"""

from ssimpert.linearization.deep_features import Features, deep_features, default_layers
from ssimpert.linearization.gradient import Linearization, linearize
from ssimpert.linearization.jacobian import FeatureJacobian, feature_jacobian, operator_norm
from ssimpert.linearization.margins import AnyOf, LabelWins, LeastLikely, Margin, Membership, Targeted, Untargeted
from ssimpert.models.forward_passes import forward

__all__ = [
    "AnyOf",
    "FeatureJacobian",
    "Features",
    "LabelWins",
    "LeastLikely",
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
