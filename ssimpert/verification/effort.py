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
        numbers: how many inputs of nonlinear layers are bounded over the set itself, those that matter most, in every
            round. The numbers are chosen anew by the bounds of the round before.
        slope_iterations: gradient steps of the relaxations' slopes; 0 for none.
        leaves: leaves of the branch and bound over signs; 0 for none.
    """

    numbers: tuple[int, ...]
    slope_iterations: int
    leaves: int


EFFORTS: dict[str, Effort] = {
    "cheap": Effort(numbers=(), slope_iterations=0, leaves=0),
    "standard": Effort(numbers=(60, 200), slope_iterations=20, leaves=0),
    "thorough": Effort(numbers=(60, 300, 1000), slope_iterations=60, leaves=400),
}


def effort_of(name: str) -> Effort:
    """The effort of this name.

    Raises:
        InputError: there is none.
    """
    if not isinstance(name, str) or name not in EFFORTS:
        raise unknown_name("effort", str(name), EFFORTS)
    return EFFORTS[name]
