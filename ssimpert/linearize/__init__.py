"""The decision, linearised: margins and their gradients."""

from ssimpert.linearize.gradient import Linearization, forward, linearize
from ssimpert.linearize.margins import Margin, Targeted, Untargeted

__all__ = ["Linearization", "Margin", "Targeted", "Untargeted", "forward", "linearize"]
