"""``ssimpert study init``, ``run``, ``status`` and ``merge``."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssimpert.cli.errors import UsageError
from ssimpert.cli.numbers import count_option
from ssimpert.cli.terminal import say

if TYPE_CHECKING:
    from ssimpert.study.running.run import RunSummary
    from ssimpert.study.running.study_run import RunProgress

StudyFile = Annotated[Path, typer.Argument(metavar="FILE", help="The study file. `ssimpert study init` writes one.")]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a study that was run.")]
DEFAULT_PARENT = Path("out") / "study"
LINES_EVERY = 10.0
"""Seconds between two lines of progress where stderr is no terminal."""


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")] = Path("study.toml"),
    name: Annotated[str | None, typer.Option(help="The study's name. Default: the file's name.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write in place of a file that is there.")] = False,
) -> None:
    """Write a study file in which every key is explained. The file is itself a study that can be run."""
    from ssimpert.atomic_files import write_atomically
    from ssimpert.study.template import study_template

    if file.exists() and not force:
        raise UsageError(f"{str(file)!r} exists; --force writes in its place")
    write_atomically(file, study_template(name or file.stem, file.name).encode())
    print(f"wrote {file}; run it with: ssimpert study run {file}")


def run(
    file: StudyFile,
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder for the records. Default: out/study/NAME.")
    ] = None,
    workers: Annotated[
        int | None,
        count_option(at_least=1, help="Worker processes. Default: one for each core, or one for a GPU."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="The address of a Dask scheduler, whose workers then do the work, such as tcp://HOST:8786."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where each worker computes: auto, cpu, cuda or cuda:N.")] = "auto",
    batch_size: Annotated[
        int | None,
        count_option(at_least=1, help="Images that are computed together. Default: 1 on a CPU, 32 on a GPU."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only every N-th image, from the I-th on (1/4 to 4/4). Join shards by merge."),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed units again.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait where another run works on the folder, instead of leaving.")
    ] = False,
) -> None:
    """Compute the units of a study that have no record yet.

    The same command again goes on where it was stopped, however that was. The exit code is 1 where units failed.
    """
    from ssimpert.cli.exit_codes import FAILED
    from ssimpert.cli.interruption import Stopped, finishing_work
    from ssimpert.study.running.run import run_study
    from ssimpert.study.study_file import read_study

    study = read_study(file)
    folder = out or DEFAULT_PARENT / folder_name(study.name)
    with finishing_work("the units at work") as received, _progress() as progress:
        summary = run_study(
            study,
            folder,
            workers=workers,
            scheduler=scheduler,
            device=device,
            batch_size=batch_size,
            retry_failed=retry_failed,
            shard=_shard(shard),
            wait=wait,
            tell=say,
            progress=progress,
            stop=lambda: received() is not None,
        )
    print(_said(summary))
    number = received()
    if number is not None and summary.counts.missing:
        raise Stopped(number, f"{summary.counts.done} units are on the disk; the same command goes on")
    if summary.counts.failed:
        raise typer.Exit(FAILED)


def status(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how far a study is: units declared, done, failed and missing, overall and for each column."""
    from ssimpert.cli.progress import duration
    from ssimpert.cli.terminal import cell, print_line, show, table
    from ssimpert.study.changes import column_name
    from ssimpert.study.status import study_status

    found = study_status(folder)
    if as_json:
        from ssimpert.cli.json_output import print_json

        print_json(_as_json(found))
        return
    print_line(found.counts.line())
    if found.holder is not None:
        holder = found.holder
        beat = "" if found.heartbeat is None else f", last heartbeat {found.heartbeat:.0f} s ago"
        print_line(f"in use by {holder.owner} on {holder.host}, process {holder.pid}{beat}")
    if found.rate and found.counts.missing:
        left = duration(found.seconds_left or 0)
        print_line(f"{found.rate:.3g} units a second in the last run; about {left} left at that rate")
    shown = table("")
    shown.title = None
    shown.add_column("column", overflow="fold")
    for heading in ("declared", "done", "failed", "missing"):
        shown.add_column(heading, justify="right")
    for entry, counts in found.cells:
        numbers = (counts.declared, counts.done, counts.failed, counts.missing)
        shown.add_row(cell(column_name(entry)), *(cell(str(number)) for number in numbers))
    show(shown)
    for reason, count in sorted(found.reasons.items(), key=lambda entry: -entry[1])[:10]:
        print_line(f"failed {count} times: {reason}")


def merge(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The folder that gets everything.")],
    sources: Annotated[list[Path], typer.Argument(metavar="SHARD...", help="The folders of the shards.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait where a run works on the target.")] = False,
) -> None:
    """Join the folders of a study's shards. Records that two folders have must be equal."""
    from ssimpert.study.joining import join_studies

    report = join_studies(target, sources, wait=wait)
    print(
        f"{report.added} records added, {report.known} were there already; {report.failures} failures; "
        f"`ssimpert study status {target}` says what is missing"
    )


def folder_name(name: str) -> str:
    """A study's name as the name of a folder: no letter that leads elsewhere."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "study"


def _shard(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 1
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"--shard must be I/N with 1 <= I <= N, such as 1/4, got {text!r}")
    return int(found[1]) - 1, int(found[2])


def _said(summary: RunSummary) -> str:
    lines = [summary.counts.line(), f"{summary.new} units computed in {summary.seconds:.1f} s"]
    if summary.counts.failed:
        lines.append(f"{summary.counts.failed} units failed; `ssimpert study status {summary.folder}` says why")
    where = summary.folder if summary.results is None else summary.results
    lines.append(f"records: {where}")
    return "\n".join(lines)


def _as_json(found: Any) -> dict[str, Any]:
    def counts(entry: Any) -> dict[str, int]:
        return {name: getattr(entry, name) for name in ("declared", "done", "failed", "missing")}

    return {
        **counts(found.counts),
        "partial": found.counts.is_partial,
        "rate": found.rate,
        "seconds_left": found.seconds_left,
        "holder": None if found.holder is None else vars(found.holder),
        "cells": [{**entry.names, **counts(numbers)} for entry, numbers in found.cells],
        "reasons": dict(found.reasons),
    }


@contextmanager
def _progress() -> Iterator[Callable[[RunProgress], None]]:
    """A bar on a terminal; elsewhere a line every ten seconds."""
    from ssimpert.cli.progress import duration

    def words(state: RunProgress) -> str:
        failed = f", {state.counts.failed} failed" if state.counts.failed else ""
        left = f", about {duration(state.seconds_left)} left" if state.seconds_left else ""
        return f"{state.counts.done}/{state.counts.declared} done{failed}{left}"

    if sys.stderr.isatty():
        from ssimpert.cli.progress import counting_bar

        with counting_bar() as advance:
            yield lambda state: advance(state.counts.done + state.counts.failed, state.counts.declared, words(state))
        return
    last = time.monotonic()

    def line(state: RunProgress) -> None:
        nonlocal last
        if time.monotonic() - last >= LINES_EVERY:
            last = time.monotonic()
            say(words(state))

    yield line
