"""How much work a verification may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ssimpert.errors import unknown_name

EffortName = Literal["cheap", "standard", "thorough"]


@dataclass(frozen=True)
class Effort:
    """The steps of a verification, which ends as soon as the decision is verified or falsified.

    Attributes:
        slope_iterations: gradient steps of the relaxations' slopes; 0 for none.
        numbers: how many inputs of nonlinear layers are bounded over the set itself, those that matter most; 0 for
            none.
        rounds: how often the numbers are chosen anew, by the bounds of the round before.
        leaves: leaves of the branch and bound over signs; 0 for none.
    """

    slope_iterations: int
    numbers: int
    rounds: int
    leaves: int


EFFORTS: dict[str, Effort] = {
    "cheap": Effort(slope_iterations=0, numbers=0, rounds=0, leaves=0),
    "standard": Effort(slope_iterations=20, numbers=200, rounds=1, leaves=0),
    "thorough": Effort(slope_iterations=60, numbers=1000, rounds=3, leaves=400),
}


def effort_of(name: str) -> Effort:
    """The effort of this name.

    Raises:
        InputError: there is none.
    """
    if not isinstance(name, str) or name not in EFFORTS:
        raise unknown_name("effort", str(name), EFFORTS)
    return EFFORTS[name]
