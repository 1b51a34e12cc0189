"""The commands that list what there is: ``models``, ``layers``, ``classes``, ``samples`` and ``methods``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssimpert.cli.errors import UsageError
from ssimpert.cli.json_output import print_json
from ssimpert.cli.options import AsJson
from ssimpert.cli.progress import progress_bar
from ssimpert.cli.terminal import cell, print_line, show, table

if TYPE_CHECKING:
    from ssimpert.models import Classifier


def models(json: AsJson = False) -> None:
    """List the classifiers that can be loaded."""
    from ssimpert.models import models as all_models

    columns = ("name", "input_size", "weights", "description")
    _listing("Models", columns, [{key: getattr(entry, key) for key in columns} for entry in all_models()], json)


def layers(
    model: Annotated[str, typer.Argument(help="The classifier. `ssimpert models` lists the names.")],
    every: Annotated[
        bool, typer.Option("--all", help="Also list the layers that give no feature map, or one of a single pixel.")
    ] = False,
    json: AsJson = False,
) -> None:
    """List the layers of a classifier, in order of execution, with what --layer takes.

    Only the architecture is looked at: no published weights are downloaded.
    """
    from ssimpert.models.layers import output_shapes, survey_layers

    classifier = _architecture(model)
    network, example = classifier.network, classifier.mean.new_zeros(1, 3, *[classifier.input_size] * 2)
    shapes, survey = output_shapes(network, example), survey_layers(network, example)
    names = [name for name in shapes if every or name in survey.feature_layers]
    rows = [
        {
            "layer": name,
            "output": "x".join(map(str, shapes[name])),
            "layout": survey.layouts[name].kind if name in survey.layouts else None,
            "default": "of --layer" if name == survey.cam_layer else None,
        }
        for name in names
    ]
    _listing(f"Layers of {model}", ("layer", "output", "layout", "default"), rows, json)


def classes(
    pattern: Annotated[
        str | None,
        typer.Argument(
            help="Only classes whose name contains this text, or matches it where it has * or ?, in any case."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="The classifier. `ssimpert models` lists the names.")
    ] = "efficientnet-lite0",
    json: AsJson = False,
) -> None:
    """List the classes of a classifier by number and name, as --target takes them."""
    labels = _architecture(model).labels
    rows = [{"number": number, "name": label} for number, label in enumerate(labels) if _matches(label, pattern or "")]
    if not rows:
        from ssimpert.models.labels import nearest_classes

        near = ", ".join(f"{labels[number]} ({number})" for number in nearest_classes(pattern or "", labels))
        hint = f"did you mean {near}?" if near else "leave the pattern out to list all"
        raise UsageError(f"no class of {model!r} matches {pattern!r}; {hint}")
    _listing(f"Classes of {model}", ("number", "name"), rows, json)


def _matches(label: str, pattern: str) -> bool:
    from fnmatch import fnmatchcase

    text, wanted = label.casefold(), pattern.casefold()
    return fnmatchcase(text, wanted) if any(letter in wanted for letter in "*?") else wanted in text


def _architecture(model: str) -> Classifier:
    """The classifier with random weights, which need no download: its layers and labels are the same."""
    from ssimpert.models import load_model
    from ssimpert.weights_path import RANDOM

    return load_model(model, weights=RANDOM, device="cpu")


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
    from ssimpert.cli.tables import methods_table

    show(methods_table())


def _conformance(methods: list[str], problems: list[str], device: str, *, as_json: bool) -> None:
    """Run the suite and print its report; exit with code 1 where a method failed, or where no method could be tried."""
    from ssimpert.cli import conformance

    report = conformance.run_suite(methods, problems, device, progress_bar)
    if as_json:
        print_json(conformance.report_document(report))
    else:
        show(conformance.report_table(report))
        for row in report.failures:
            print_line(str(row))
    if not report.passed:
        raise typer.Exit(1)


def _listing(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    shown = table(title)
    for column in columns:
        shown.add_column(column.replace("_", " "))
    for row in rows:
        shown.add_row(*("" if row[column] is None else cell(str(row[column])) for column in columns))
    show(shown)
