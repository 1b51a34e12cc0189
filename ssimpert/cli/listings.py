"""The commands that say what there is: ``models``, ``samples`` and ``methods``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ssimpert.cli.options import AsJson
from ssimpert.cli.run import print_json, progress_bar


def models(json: AsJson = False) -> None:
    """List the classifiers that can be loaded."""
    from ssimpert.models import models as known_models

    columns = ("name", "input_size", "weights", "description")
    _listing("Models", columns, [{key: getattr(entry, key) for key in columns} for entry in known_models()], json)


def samples(json: AsJson = False) -> None:
    """List the pictures that come with it."""
    from ssimpert.data import samples as known_samples

    columns = ("name", "kind", "description", "licence")
    _listing("Samples", columns, [{key: getattr(entry, key) for key in columns} for entry in known_samples()], json)


def methods(
    conformance: Annotated[
        bool,
        typer.Option("--conformance", help="Try every method on standard problems; takes minutes."),
    ] = False,
    method: Annotated[list[str] | None, typer.Option(help="With --conformance: this method only; repeatable.")] = None,
    problem: Annotated[
        list[str] | None, typer.Option(help="With --conformance: problems like this, e.g. 'tiles*'; repeatable.")
    ] = None,
    device: Annotated[str, typer.Option(help="With --conformance: cpu, cuda, cuda:N or auto.")] = "cpu",
    json: AsJson = False,
) -> None:
    """List the solver methods and what each can take, or check them with --conformance."""
    import solvers

    if conformance:
        _conformance(method or [], problem or [], device, as_json=json)
        return
    if method or problem or device != "cpu":
        raise typer.BadParameter("--method, --problem and --device go with --conformance")
    if json:
        print_json(
            [
                {
                    "name": info.name,
                    "problems": [kind.__name__ for kind in info.problems],
                    "required": sorted(info.required),
                    "any_of": sorted(info.any_of),
                    "optional": sorted(info.optional),
                    "windows": info.windows,
                    "exact": info.exact,
                    "devices": list(info.devices),
                    "unavailable": info.unavailable(),
                    "description": info.description,
                }
                for info in solvers.methods()
            ]
        )
        return
    from rich.console import Console

    from ssimpert.cli.tables import methods_table

    Console().print(methods_table())


def _conformance(methods: list[str], problems: list[str], device: str, *, as_json: bool) -> None:
    """Exit code 1 where a method failed, or where none could be tried."""
    from rich.console import Console

    from ssimpert.cli import conformance

    report = conformance.run(methods, problems, device, progress_bar)
    if as_json:
        print_json(conformance.document(report))
    else:
        Console().print(conformance.table(report))
        for row in report.failures:
            Console().print(str(row), markup=False, highlight=False)
    if not report.passed:
        raise typer.Exit(1)


def _listing(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column.replace("_", " "))
    for row in rows:
        # Escaped: an extra's name in brackets would be taken for markup.
        table.add_row(*("" if row[column] is None else escape(str(row[column])) for column in columns))
    Console().print(table)
