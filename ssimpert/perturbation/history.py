"""The rows of a result's history: one row per step and image."""

from __future__ import annotations

from typing import TypedDict


class StepRow(TypedDict):
    """One step of one image. Margin and label are those *after* the step."""

    step: int
    image: int
    margin: float
    label: int
    step_length: float
    seconds: float


class SolverChecks(TypedDict):
    """The certified state at the checks of one solve: a list over checks for each quantity.

    ``seconds`` count from the beginning of the solve. ``objective`` and ``bound`` are the best certified values so far,
    of the step's linearised problem. The lists are empty where the step's images were solved in several parts.
    """

    iteration: list[int]
    seconds: list[float]
    objective: list[float]
    bound: list[float]


class SolverRow(StepRow):
    """A step that a solver found, with the solver's relative gap, status and checks."""

    rel_gap: float
    status: str
    checks: SolverChecks


class ObjectiveRow(StepRow):
    """A step of descent, with the objective and its weighted terms after the step."""

    objective: float
    feature_term: float
    pixel_term: float
    margin_term: float
    gamma: float


def renumbered(history: tuple[StepRow, ...], number_of: dict[int, int]) -> tuple[StepRow, ...]:
    """The rows of the images in ``number_of``, with their new numbers."""
    rows = ({**row, "image": number_of[row["image"]]} for row in history if row["image"] in number_of)
    return tuple(rows)  # type: ignore[arg-type]
