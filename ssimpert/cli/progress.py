"""Progress on stderr: bars on a terminal, which disappear when the work is done; plain lines where stderr is piped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssimpert.cli.terminal import say
from ssimpert.escaping import printable

if TYPE_CHECKING:
    from rich.progress import Progress

# Where stderr is no terminal, a photo that takes longer gets a line after so many seconds, and again and again.
SECONDS_OF_SILENCE = 60.0

Stage = Callable[[str, int, int | None], None]
"""Called with the name of what is being done, how many of its steps are done, and how many there are (``None``:
unknown)."""


@dataclass(frozen=True)
class PhotosProgress:
    """How a command tells how far it is.

    Attributes:
        begin: called with a photo's name before the photo; returns a function that is told of the photo's stages.
        end: called after the photo with its name and what came of it.
    """

    begin: Callable[[str], Stage]
    end: Callable[[str, str], None]


@contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Callable[[], None]]:
    """A progress bar of ``total`` steps (``None``: unknown). Yields a function that advances the bar by one step.

    Where stderr is no terminal, nothing is printed.
    """
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

    with _on_stderr(
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
    ) as progress:
        task = progress.add_task(description, total=total)
        yield lambda: progress.advance(task)


@contextmanager
def counting_bar() -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar. Yields a function that takes how much is done, how much there is, and words for both."""
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with _on_stderr(*columns) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total, words: progress.update(task, completed=done, total=total, description=words)


@contextmanager
def photos_progress(description: str, count: int) -> Iterator[PhotosProgress]:
    """Progress through ``count`` photos, with the time that is left.

    A terminal gets a bar for the photos and a bar for the stages of the photo in hand. Elsewhere each photo gets a
    plain line when it is done, and one a minute before that.
    """
    if sys.stderr.isatty():
        with _photo_bars(description, count) as progress:
            yield progress
        return
    began, done = time.monotonic(), 0
    photo_began = began

    def begin(name: str) -> Stage:
        nonlocal photo_began
        photo_began = time.monotonic()
        said_at = photo_began

        def tell(stage: str, steps_done: int, steps: int | None) -> None:
            nonlocal said_at
            if time.monotonic() - said_at >= SECONDS_OF_SILENCE:
                said_at = time.monotonic()
                of = "" if steps is None else f" of at most {steps}"
                say(f"{done + 1}/{count} {name}: {stage}, {steps_done}{of} ({duration(said_at - photo_began)})")

        return tell

    def end(name: str, outcome: str) -> None:
        nonlocal done
        done += 1
        now = time.monotonic()
        left = (now - began) / done * (count - done)
        words = [f"{now - photo_began:.1f} s", *([f"about {duration(left)} left"] if done < count else [])]
        say(f"{done}/{count} {name}: {outcome} ({', '.join(words)})")

    yield PhotosProgress(begin, end)


@contextmanager
def _photo_bars(description: str, count: int) -> Iterator[PhotosProgress]:
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )
    began, done = time.monotonic(), 0
    with _on_stderr(*columns) as progress:
        photos = progress.add_task(description, total=count, left="")
        stages = progress.add_task("", total=None, left="")

        def begin(name: str) -> Stage:
            shown = printable(name)
            progress.reset(stages, description=shown, total=None)
            return lambda stage, steps_done, steps: progress.update(
                stages, description=f"{shown}: {stage}", completed=steps_done, total=steps
            )

        def end(name: str, outcome: str) -> None:
            nonlocal done
            done += 1
            left = (time.monotonic() - began) / done * (count - done)
            progress.update(photos, completed=done, left=f"about {duration(left)} left" if done < count else "")

        yield PhotosProgress(begin, end)


def duration(seconds: float) -> str:
    """``seconds`` for people: "40 s", "12 min", "3 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _on_stderr(*columns: Any) -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    return Progress(*columns, console=Console(stderr=True), transient=True)
