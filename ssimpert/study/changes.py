"""What an edited study keeps, adds and drops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ssimpert.study.declared import DeclaredCell
from ssimpert.study.keys import changed_options


@dataclass(frozen=True)
class StudyChanges:
    """How a study differs from its last run.

    Attributes:
        kept: the cells whose records hold, though their names may have changed.
        added: the cells that are new.
        dropped: the cells that are not asked for any more; their records stay in the folder.
        changed: for each new cell that has the names of a dropped one, the options in which the two differ.
        items: the names of items with other pixels or another annotation than before.
    """

    kept: tuple[DeclaredCell, ...]
    added: tuple[DeclaredCell, ...]
    dropped: tuple[DeclaredCell, ...]
    changed: tuple[tuple[DeclaredCell, tuple[str, ...]], ...]
    items: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.dropped or self.items)

    def lines(self) -> list[str]:
        """The changes in words, a line each."""
        if not self:
            return []
        lines = [
            f"the study changed: {len(self.kept)} columns keep their records, {len(self.added)} are new, "
            f"{len(self.dropped)} are dropped"
        ]
        explained = {cell.digest: options for cell, options in self.changed}
        for cell in self.added:
            why = f" (changed: {', '.join(explained[cell.digest])})" if cell.digest in explained else ""
            lines.append(f"  new: {column_name(cell)}{why}")
        renewed = {_place(cell) for cell, _ in self.changed}
        lines += [f"  dropped: {column_name(cell)}" for cell in self.dropped if _place(cell) not in renewed]
        if self.items:
            shown = ", ".join(self.items[:5]) + (", ..." if len(self.items) > 5 else "")
            lines.append(f"  changed images: {len(self.items)} ({shown}); their units are new")
        return lines


def study_changes(
    before: Sequence[DeclaredCell], after: Sequence[DeclaredCell], items: Sequence[str] = ()
) -> StudyChanges:
    """How the cells ``after`` differ from the cells ``before``.

    Args:
        before: of the last run.
        after: of the study as it is now.
        items: the names of changed items.
    """
    old, new = {cell.digest for cell in before}, {cell.digest for cell in after}
    dropped = tuple(cell for cell in before if cell.digest not in new)
    added = tuple(cell for cell in after if cell.digest not in old)
    by_place = {_place(cell): cell for cell in dropped}
    changed = tuple(
        (cell, changed_options(by_place[_place(cell)].options, cell.options))
        for cell in added
        if _place(cell) in by_place
    )
    return StudyChanges(tuple(cell for cell in after if cell.digest in old), added, dropped, changed, tuple(items))


def column_name(cell: DeclaredCell) -> str:
    """A cell in words, such as ``lite0, windows, threshold 0.99``."""
    names = cell.names
    parts = [str(names["model"]), str(names["formulation"] or names["attack"])]
    if names["level"] is not None:
        parts.append(f"{names['level_unit']} {names['level']:g}".strip())
    if names["passes"] is not None:
        parts.append(f"{names['passes']} passes")
    if names["repeat"]:
        parts.append(f"repeat {names['repeat']}")
    return ", ".join(parts)


def _place(cell: DeclaredCell) -> tuple[str, ...]:
    return tuple(str(cell.names[name]) for name in ("model", "formulation", "attack", "level", "passes", "repeat"))
