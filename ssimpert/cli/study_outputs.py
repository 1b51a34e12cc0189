"""``ssimpert study table``, ``plot`` and ``compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssimpert.cli.errors import UsageError
from ssimpert.cli.numbers import count_option
from ssimpert.errors import InputError
from ssimpert.number_text import as_number

if TYPE_CHECKING:
    from ssimpert.report.figure_style import Width
    from ssimpert.study.outputs.table import Statistic
    from ssimpert.study.outputs.text_table import TextTable

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a study that was run.")]
Value = Annotated[
    list[str],
    typer.Option(
        "--value",
        help="What to show: success, margin_after, margin_gain, l2_norm, linf_norm, ssim, found_level, ...; or a map's "
        "measure such as rms.pearson. Can be given several times.",
    ),
]
Cluster = Annotated[
    str | None, typer.Option(help="Resample whole clusters of images with one value in this column, such as object.")
]
Seed = Annotated[int, count_option(at_least=0, help="The seed of the bootstrap.")]
Write = Annotated[
    Path | None, typer.Option("--write", help="Write the table, too: a .csv, .tex, .md, .parquet or .json file.")
]


def table(
    folder: Folder,
    value: Value = ["success", "margin_gain", "l2_norm", "ssim"],  # noqa: B006 - typer copies it
    rows: Annotated[
        str, typer.Option(help="The columns that make the rows, with commas.")
    ] = "formulation,level_unit,level",
    columns: Annotated[str, typer.Option(help="The columns that make the columns, with commas.")] = "model",
    statistic: Annotated[str, typer.Option(help="What cells show: mean (with its interval) or median.")] = "mean",
    cluster: Cluster = None,
    tests: Annotated[
        bool, typer.Option("--tests", help="Test the columns of the study against one another, with Holm's correction.")
    ] = False,
    baseline: Annotated[
        str | None, typer.Option(help="Test this formulation or attack against all others. Implies --tests.")
    ] = None,
    write: Write = None,
    seed: Seed = 0,
) -> None:
    """Print a table of a study's results: means over images with 95% bootstrap intervals.

    A table of an incomplete study says PARTIAL in its first line.
    """
    import pandas as pd

    from ssimpert.cli.terminal import print_line
    from ssimpert.study.outputs.results import load_results
    from ssimpert.study.outputs.table import paired_columns, pivot
    from ssimpert.study.outputs.table_files import check_table_path, write_study_table
    from ssimpert.study.outputs.text_table import paired_text, pivot_text
    from ssimpert.study.outputs.values import unit_values

    if statistic not in ("mean", "median"):
        raise UsageError(f"--statistic must be mean or median, got {statistic!r}")
    shown: Statistic = "mean" if statistic == "mean" else "median"
    is_test = tests or baseline is not None
    if is_test and statistic == "median":
        raise UsageError("--statistic median is of tables without --tests and --baseline, which test means")
    if write is not None:
        check_table_path(write)
    results = load_results(folder)
    row_names, column_names = _names(rows), _names(columns)
    parts, texts = [], []
    for name in value:
        title = unit_values(results, name).title
        if is_test:
            part = paired_columns(results, name, baseline=baseline, cluster=cluster, seed=seed)
            texts.append(paired_text(part, f"{title}: first minus second"))
        else:
            part = pivot(
                results, name, rows=row_names, columns=column_names, statistic=shown, cluster=cluster, seed=seed
            )
            texts.append(pivot_text(part, f"{title}, {statistic}", rows=row_names, columns=column_names,
                                    statistic=statistic))  # fmt: skip
        parts.append(part.assign(value=name))
    print_line(f"{results.first_line()} ({results.name})")
    for line in results.notes:
        print_line(line)
    for text in texts:
        _show(text)
    if write is not None:
        write_study_table(write, pd.concat(parts, ignore_index=True), texts, [results.first_line()])
        print_line(f"wrote {write}")


def plot(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", help="The file: .svg, .pdf or .png.")] = Path("study.svg"),
    value: Annotated[str, typer.Option(help="What to draw; see `study table`.")] = "rms.pearson",
    against: Annotated[
        str,
        typer.Option(
            help="level, each family on an axis of its own; or a distance that all families have: one_minus_ssim, "
            "l2_norm, linf_norm, success."
        ),
    ] = "level",
    width: Annotated[
        str | None,
        typer.Option(help="column or page, of a paper with two columns; or inches, at least 3. Default: by panels."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Draw a value with its intervals against the level, or against a common distance."""
    from ssimpert.cli.terminal import print_line
    from ssimpert.report.figure import FORMATS, save_figure
    from ssimpert.report.study_plot import study_figure
    from ssimpert.study.outputs.results import load_results

    if out.suffix.lower() not in FORMATS:
        raise UsageError(f"--out must end in {', '.join(FORMATS)}, got {str(out)!r}")
    named = _width(width)
    results = load_results(folder)
    figure = study_figure(results, value, against=against, width=named, seed=seed)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"can't make the folder {str(out.parent)!r}: {error.strerror or error}") from error
    save_figure(figure, out, dpi=200)
    print_line(f"wrote {out}; {results.first_line()}")


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="The folder of a study.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The folder of another study.")],
    value: Value = ["success", "margin_after", "l2_norm", "ssim"],  # noqa: B006 - typer copies it
    write: Write = None,
    seed: Seed = 0,
) -> None:
    """Set the results of two studies side by side, over the images that both have."""
    from ssimpert.cli.terminal import print_line
    from ssimpert.study.outputs.comparison import compare_studies
    from ssimpert.study.outputs.results import load_results
    from ssimpert.study.outputs.table_files import check_table_path, write_study_table
    from ssimpert.study.outputs.text_table import comparison_text

    if write is not None:
        check_table_path(write)
    results = [load_results(folder) for folder in (first, second)]
    compared = compare_studies(results[0], results[1], value, seed=seed)
    for name, one in zip("AB", results, strict=True):
        print_line(f"{name}: {one.first_line()} ({one.name})")
        for line in one.notes:
            print_line(line)
    print_line(f"{compared.images} images in both")
    if compared.changed_images:
        shown = ", ".join(compared.changed_images[:5]) + (", ..." if len(compared.changed_images) > 5 else "")
        print_line(f"{len(compared.changed_images)} images of one name differ and were left out: {shown}")
    for column, options in compared.changed_options:
        print_line(f"other options in B: {column} ({', '.join(options)})")
    for name, only in (("A", compared.only_first), ("B", compared.only_second)):
        for column in only:
            print_line(f"only in {name}: {column}")
    for line in compared.not_compared:
        print_line(f"not compared: {line}")
    parts = compared.table.groupby("value", sort=False)
    texts = [comparison_text(part, f"{name}: B minus A") for name, part in parts]
    for text in texts:
        _show(text)
    if write is not None:
        counts = [f"{name}: {one.first_line()}" for name, one in zip("AB", results, strict=True)]
        write_study_table(write, compared.table, texts, counts)
        print_line(f"wrote {write}")


def _show(text: TextTable) -> None:
    from ssimpert.cli.terminal import cell, show
    from ssimpert.cli.terminal import table as empty_table

    shown = empty_table(text.title, "\n".join(text.notes) or None)
    for place, heading in enumerate(text.headings):
        if place < text.names:
            shown.add_column(cell(heading), overflow="fold")
        else:
            shown.add_column(cell(heading), justify="right")
    for row in text.rows:
        shown.add_row(*(cell(entry) for entry in row))
    show(shown)


def _width(text: str | None) -> Width:
    """The name of a width, or inches."""
    if text is None:
        return None
    if text in ("column", "page"):
        return "column" if text == "column" else "page"
    inches = as_number(text)
    if inches is None:
        raise UsageError(f"--width must be column, page or a number of inches, got {text!r}")
    return inches


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
