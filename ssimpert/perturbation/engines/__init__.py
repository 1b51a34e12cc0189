"""The engines of ``perturb``: how an image moves from one linear step to the next."""

from ssimpert.perturbation.engines.catalog import Engine, check_engine

__all__ = ["Engine", "check_engine"]
