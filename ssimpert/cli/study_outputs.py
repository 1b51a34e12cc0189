"""``ssimpert study table``, ``plot`` and ``compare``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssimpert.cli.errors import UsageError
from ssimpert.cli.numbers import count_option

if TYPE_CHECKING:
    import pandas as pd

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
    Path | None, typer.Option("--write", help="Write the table, too: FILE.csv, FILE.tex, FILE.parquet or FILE.json.")
]
DIGITS = 4


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
    from ssimpert.study.outputs.values import unit_values

    if statistic not in ("mean", "median"):
        raise UsageError(f"--statistic must be mean or median, got {statistic!r}")
    results = load_results(folder)
    row_names, column_names = _names(rows), _names(columns)
    parts = []
    print_line(f"{results.first_line()} ({results.name})")
    for line in results.notes:
        print_line(line)
    for name in value:
        if tests or baseline is not None:
            part = paired_columns(results, name, baseline=baseline, cluster=cluster, seed=seed)
            _show_tests(f"{unit_values(results, name).title}: first minus second", part)
        else:
            part = pivot(results, name, rows=row_names, columns=column_names, cluster=cluster, seed=seed)
            _show_pivot(f"{unit_values(results, name).title}, {statistic}", part, row_names, column_names, statistic)
        parts.append(part.assign(value=name))
    if write is not None:
        write_table_file(pd.concat(parts, ignore_index=True), write, results.first_line())
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
    seed: Seed = 0,
) -> None:
    """Draw a value with its intervals against the level, or against a common distance."""
    from ssimpert.cli.terminal import print_line
    from ssimpert.report.study_plot import study_figure
    from ssimpert.study.outputs.results import load_results

    if out.suffix.lower() not in (".svg", ".pdf", ".png"):
        raise UsageError(f"--out must end in .svg, .pdf or .png, got {str(out)!r}")
    results = load_results(folder)
    figure = study_figure(results, value, against=against, seed=seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Without the date, the same study gives the same bytes.
    metadata: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}[out.suffix.lower()]
    figure.savefig(out, dpi=200, metadata=metadata)
    print_line(f"wrote {out}; {results.first_line()}")


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="The folder of a study.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The folder of another study.")],
    value: Value = ["success", "margin_after", "l2_norm", "ssim"],  # noqa: B006 - typer copies it
    write: Write = None,
    seed: Seed = 0,
) -> None:
    """Set the results of two studies side by side, over the images that both have."""
    from ssimpert.cli.terminal import cell, print_line, show
    from ssimpert.cli.terminal import table as empty_table
    from ssimpert.study.outputs.comparison import compare_studies
    from ssimpert.study.outputs.results import load_results

    results = [load_results(folder) for folder in (first, second)]
    compared = compare_studies(results[0], results[1], value, seed=seed)
    for name, one in zip("AB", results, strict=True):
        print_line(f"{name}: {one.name}; {one.first_line()}")
    print_line(f"{compared.images} images in both")
    if compared.changed_images:
        shown = ", ".join(compared.changed_images[:5])
        print_line(f"{len(compared.changed_images)} images of one name differ and were left out: {shown}")
    for name, only in (("A", compared.only_first), ("B", compared.only_second)):
        for column in only:
            print_line(f"only in {name}: {column}")
    for name, part in compared.table.groupby("value", sort=False):
        shown_table = empty_table(f"{name}: B minus A")
        shown_table.add_column("column", overflow="fold")
        for heading in ("images", "A", "B", "difference"):
            shown_table.add_column(heading, justify="right")
        for row in part.to_dict("records"):
            shown_table.add_row(
                cell(f"{row['model']}, {row['column']}"),
                *(cell(text) for text in (str(row["n"]), number(row["first"]), number(row["second"]))),
                cell(estimate(row["difference"], row["low"], row["high"])),
            )
        show(shown_table)
    if write is not None:
        write_table_file(compared.table, write, "")
        print_line(f"wrote {write}")


def write_table_file(frame: pd.DataFrame, path: Path, note: str) -> None:
    """Write a table as the suffix of ``path`` says: .csv, .tex (booktabs), .parquet or .json.

    Raises:
        UsageError: another suffix.
    """
    import io

    from ssimpert.atomic_files import write_atomically

    suffix = path.suffix.lower()
    if suffix == ".csv":
        content = frame.to_csv(index=False, lineterminator="\n").encode()
    elif suffix == ".tex":
        content = latex(frame, note).encode()
    elif suffix == ".json":
        content = frame.to_json(orient="records", indent=1).encode()
    elif suffix == ".parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        content = buffer.getvalue()
    else:
        raise UsageError(f"--write must end in .csv, .tex, .parquet or .json, got {str(path)!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)


def latex(frame: pd.DataFrame, note: str) -> str:
    """A table for LaTeX's package booktabs, with every name escaped; ``note`` is a comment before it."""
    numbers = [str(name) for name in frame.columns if frame[name].dtype.kind in "fiu"]
    lines = [*([f"% {' '.join(note.split())}"] if note else [])]
    lines.append(r"\begin{tabular}{" + "".join("r" if name in numbers else "l" for name in frame.columns) + "}")
    lines += [r"\toprule", " & ".join(escaped(str(name)) for name in frame.columns) + r" \\", r"\midrule"]
    for row in frame.itertuples(index=False):
        lines.append(
            " & ".join(escaped(number(entry) if isinstance(entry, float) else str(entry)) for entry in row) + r" \\"
        )
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def escaped(text: str) -> str:
    """``text`` with the letters escaped that mean something to LaTeX."""
    special = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    }  # fmt: skip
    return "".join(special.get(letter, letter) for letter in text)


def number(value: float) -> str:
    """A number with few digits; ``n/a`` for NaN."""
    if value is None or math.isnan(value):
        return "n/a"
    return (
        f"{value:.{DIGITS}g}"
        if abs(value) < 1e-3 or abs(value) >= 1e4
        else f"{value:.{DIGITS}f}".rstrip("0").rstrip(".")
    )


def estimate(mean: float, low: float, high: float) -> str:
    """``0.431 [0.402, 0.467]``; without the interval where the interval is NaN."""
    if math.isnan(low) or math.isnan(high):
        return number(mean)
    return f"{number(mean)} [{number(low)}, {number(high)}]"


def _show_pivot(title: str, part: pd.DataFrame, rows: list[str], columns: list[str], statistic: str) -> None:
    from ssimpert.cli.terminal import cell, show
    from ssimpert.cli.terminal import table as empty_table

    undefined = int(part["undefined"].sum())
    shown = empty_table(title, f"{undefined} units have no number and are left out" if undefined else None)
    for name in rows:
        shown.add_column(name.replace("_", " "), overflow="fold")
    headings = list(dict.fromkeys(tuple(_text(row[name]) for name in columns) for row in part.to_dict("records")))
    for heading in headings:
        shown.add_column(", ".join(heading) or statistic, justify="right")
    cells: dict[tuple[str, ...], dict[tuple[str, ...], str]] = {}
    for row in part.to_dict("records"):
        text = estimate(row["mean"], row["low"], row["high"]) if statistic == "mean" else number(row["median"])
        key = tuple(_text(row[name]) for name in rows)
        cells.setdefault(key, {})[tuple(_text(row[name]) for name in columns)] = text
    for key, found in cells.items():
        shown.add_row(*(cell(text) for text in key), *(cell(found.get(heading, "")) for heading in headings))
    show(shown)


def _show_tests(title: str, part: pd.DataFrame) -> None:
    from ssimpert.cli.terminal import cell, show
    from ssimpert.cli.terminal import table as empty_table

    shown = empty_table(title, f"p after Holm's correction over {len(part)} comparisons; sign-flip tests over images")
    for name in ("model", "first", "second"):
        shown.add_column(name, overflow="fold")
    for name in ("images", "difference", "p"):
        shown.add_column(name, justify="right")
    for row in part.to_dict("records"):
        shown.add_row(
            *(cell(row[name]) for name in ("model", "first", "second")),
            cell(str(row["n"])),
            cell(estimate(row["difference"], row["low"], row["high"])),
            cell(number(row["p_holm"])),
        )
    show(shown)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
