"""The sets, restated in NumPy from their definitions, to judge answers independently."""

from solvers.conformance.oracles.of_set import oracle_for

__all__ = ["oracle_for"]
