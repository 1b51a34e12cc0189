"""The commands that list what is available: ``models``, ``samples`` and ``methods``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ssimpert.cli.options import AsJson
from ssimpert.cli.progress import progress_bar
from ssimpert.cli.workspace import print_json


def models(json: AsJson = False) -> None:
    """List the classifiers that can be loaded."""
    from ssimpert.models import models as all_models

    columns = ("name", "input_size", "weights", "description")
    _listing("Models", columns, [{key: getattr(entry, key) for key in columns} for entry in all_models()], json)


def samples(json: AsJson = False) -> None:
    """List the sample pictures, which are installed with the program."""
    from ssimpert.data import samples as all_samples

    columns = ("name", "kind", "description", "licence")
    _listing("Samples", columns, [{key: getattr(entry, key) for key in columns} for entry in all_samples()], json)


def methods(
    conformance: Annotated[
        bool,
        typer.Option("--conformance", help="Try every method on standard problems. This takes minutes."),
    ] = False,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="With --conformance: try only this method. Give the option several times for several methods."
        ),
    ] = None,
    problem: Annotated[
        list[str] | None,
        typer.Option(
            help="With --conformance: try only problems whose name matches this pattern, such as 'tiles*'. "
            "Give the option several times for several patterns."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="With --conformance: where to solve, cpu, cuda, cuda:N or auto.")] = "cpu",
    json: AsJson = False,
) -> None:
    """List the solver methods and the constraint sets that each takes. With --conformance, check the methods."""
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
    """Run the suite and print its report; exit with code 1 where a method failed, or where no method could be tried."""
    from rich.console import Console

    from ssimpert.cli import conformance

    report = conformance.run_suite(methods, problems, device, progress_bar)
    if as_json:
        print_json(conformance.report_document(report))
    else:
        Console().print(conformance.report_table(report))
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
        # Escaped, since rich would take the name of an extra, which is in brackets, for markup.
        table.add_row(*("" if row[column] is None else escape(str(row[column])) for column in columns))
    Console().print(table)
