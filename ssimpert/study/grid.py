"""The cells of a study: its columns, in the order in which the study declares them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ssimpert.study.study import Study

CELL_COLUMNS = ("model", "formulation", "level", "level_unit", "engine", "attack", "passes", "repeat")
"""The columns that name a cell."""


@dataclass(frozen=True)
class Cell:
    """One column of the grid: a model with a formulation at a level, or with an attack of so many passes.

    Attributes:
        index: the position among the cells of the study.
        model: the position of the model in the study.
        formulation: the position of the formulation; ``None`` for an attack.
        attack: the position of the attack; ``None`` for a formulation.
        level: as the study states the level, in the unit ``names["level_unit"]``; ``None`` where the level is searched
            for, and for an attack without a radius.
        passes: the gradients that an attack takes of each image; ``None`` for a formulation.
        repeat: from 0.
        names: the values of the columns :data:`CELL_COLUMNS`. Text is empty, and a number is ``None``, where a
            cell has no such thing.
    """

    index: int
    model: int
    formulation: int | None
    attack: int | None
    level: float | None
    passes: int | None
    repeat: int
    names: dict[str, str | float | int | None]


def cells(study: Study) -> tuple[Cell, ...]:
    """The cells of ``study``: model by model, then its formulations level by level, its attacks, and the repeats."""
    found: list[Cell] = []
    for model, model_section in enumerate(study.models):
        for columns in _columns(study):
            for repeat in range(study.repeats):
                names = {"model": model_section.label, **columns.names, "repeat": repeat}
                found.append(
                    Cell(
                        index=len(found),
                        model=model,
                        formulation=columns.formulation,
                        attack=columns.attack,
                        level=columns.level,
                        passes=columns.passes,
                        repeat=repeat,
                        names=names,
                    )
                )
    return tuple(found)


@dataclass(frozen=True)
class _Column:
    """A cell without its model and its repeat."""

    formulation: int | None
    attack: int | None
    level: float | None
    passes: int | None
    names: dict[str, str | float | int | None]


def _columns(study: Study) -> Iterator[_Column]:
    for index, formulation in enumerate(study.formulations):
        for level in formulation.grid_levels:
            names = {
                "formulation": formulation.name,
                "level": level,
                "level_unit": formulation.level_unit,
                "engine": formulation.engine_name,
                "attack": "",
                "passes": None,
            }
            yield _Column(index, None, level, None, names)
    for index, attack in enumerate(study.attacks):
        for level in attack.grid_levels:
            for passes in attack.grid_passes:
                names = {
                    "formulation": "",
                    "level": level,
                    "level_unit": "" if level is None else "radius",
                    "engine": "",
                    "attack": attack.label,
                    "passes": passes,
                }
                yield _Column(None, index, level, passes, names)
