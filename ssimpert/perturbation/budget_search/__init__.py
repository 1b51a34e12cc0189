"""The least level of a set that changes the decision, and the margin over levels."""

from ssimpert.perturbation.budget_search.margin_curve import margin_curve
from ssimpert.perturbation.budget_search.minimal_budget import minimal_budget

__all__ = ["margin_curve", "minimal_budget"]
