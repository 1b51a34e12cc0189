"""Which keys each formulation takes, and the words that their values may be."""

from __future__ import annotations

from ssimpert.formulations.names import BallMethod, Formulation
from ssimpert.formulations.options import OPTIONS
from ssimpert.perturbation.engines.catalog import ENGINES_AROUND_ORIGINAL

FORMULATIONS = tuple(formulation.value for formulation in OPTIONS)
LEVEL_KEYS = ("distance", "threshold", "radius", "gamma")
WINDOW_KEYS = {"size": "window_size", "stride": "stride", "border": "border", "sigma": "sigma"}
"""The keys of ``window``, and what each is called among the options of a formulation."""
ENGINES = (*ENGINES_AROUND_ORIGINAL, "recentred")
BUDGETS = ("fixed", "minimal")
MARGINS = ("untargeted", "least-likely")
SEARCH_ROUNDS, SEARCH_CANDIDATES = 20, 10
"""The defaults of a search for the least level, as of :func:`ssimpert.minimal_budget`."""

# The keys about how a set is used, beside the options that describe it.
SET_KEYS = {
    "fixed": (
        "engine", "recentred", "faithful", "steps", "margin", "margin_by", "target", "stop_at_success", "shrink",
        "quantize", "method", "eps_rel", "max_iter", "any_size",
    ),
    "minimal": (
        "engine", "steps", "margin", "margin_by", "target", "rounds", "tolerance", "candidates", "method", "eps_rel",
        "max_iter", "any_size",
    ),
}  # fmt: skip
BALL_KEYS = {
    (BallMethod.PENALISED, "fixed"): ("steps", "target", "faithful", "quantize"),
    (BallMethod.PENALISED, "minimal"): ("steps", "target", "rounds", "tolerance"),
    (BallMethod.CONSTRAINED, "fixed"): (
        "steps", "target", "stop_at_success", "shrink", "quantize", "eps_rel", "max_iter", "any_size",
    ),
    (BallMethod.CONSTRAINED, "minimal"): (
        "steps", "target", "rounds", "tolerance", "eps_rel", "max_iter", "any_size",
    ),
}  # fmt: skip

USE_KEYS = frozenset(key for keys in (*SET_KEYS.values(), *BALL_KEYS.values()) for key in keys)
"""The keys about how a formulation is used."""


def keys_taken(formulation: Formulation, budget: str) -> tuple[str, ...]:
    """The keys of a formulation with a budget, "fixed" or "minimal"."""
    options = ["window" if name in WINDOW_KEYS.values() else name for name in OPTIONS[formulation]]
    uses = BALL_KEYS[formulation, budget] if isinstance(formulation, BallMethod) else SET_KEYS[budget]
    return tuple(dict.fromkeys(("name", "constraint", *options, "budget", *uses)))


def window_key(option: str) -> str:
    """The key of ``window`` that gives an option of the window."""
    return next(key for key, name in WINDOW_KEYS.items() if name == option)
