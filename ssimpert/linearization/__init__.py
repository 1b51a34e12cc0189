"""The decision, linearised: margins and their gradients."""

from ssimpert.linearization.gradient import Linearization, forward, linearize
from ssimpert.linearization.margins import Margin, Targeted, Untargeted

__all__ = ["Linearization", "Margin", "Targeted", "Untargeted", "forward", "linearize"]
