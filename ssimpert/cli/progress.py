"""Progress bars on stderr. They disappear when the work is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress


@contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Callable[[], None]]:
    """A progress bar of ``total`` steps (``None``: unknown). Yields a function that advances the bar by one step."""
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

    with _on_stderr(
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
    ) as progress:
        task = progress.add_task(description, total=total)
        yield lambda: progress.advance(task)


@contextmanager
def stages_bar(description: str) -> Iterator[Callable[[str, int, int | None], None]]:
    """A progress bar of work in stages.

    Yields a function of a stage's name, how many of its steps are done, and how many there are (``None``: unknown).
    """
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with _on_stderr(*columns) as progress:
        task = progress.add_task(description, total=None)

        def advance(stage: str, done: int, total: int | None) -> None:
            progress.update(task, description=f"{description}: {stage}", completed=done, total=total)

        yield advance


def _on_stderr(*columns: Any) -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    return Progress(*columns, console=Console(stderr=True), transient=True)
