"""Tables of studies on disk: CSV, LaTeX, Markdown, Parquet and JSON. Every file of an incomplete study says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ssimpert.atomic_files import write_atomically
from ssimpert.errors import InputError
from ssimpert.escaping import printable
from ssimpert.study.outputs.text_table import TextTable

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".tex", ".md", ".parquet", ".json")


def check_table_path(path: Path) -> None:
    """Raise :class:`InputError` unless ``path`` has one of :data:`SUFFIXES`."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"a table's file must end in {', '.join(SUFFIXES)}, got {str(path)!r}")


def write_study_table(path: Path, frame: pd.DataFrame, tables: Sequence[TextTable], counts: Sequence[str]) -> None:
    """Write a table as the suffix of ``path`` says. Equal tables give equal bytes.

    Args:
        path: its folder is made where it does not exist; the file appears whole or not at all.
        frame: every number in full precision: for CSV, Parquet and JSON.
        tables: the same as text: for LaTeX and Markdown.
        counts: how complete each study is (:meth:`ssimpert.study.StudyResults.first_line`). A line that begins with
            PARTIAL is the first one of a CSV file, after ``# `` (``pandas.read_csv(..., comment="#")``), the first row
            of a LaTeX table, and stands above a table in Markdown. Parquet has all lines under ``ssimpert.counts`` in
            the metadata of its schema; JSON has them under ``"counts"``, beside ``"rows"``.

    Raises:
        InputError: another suffix, or a file that can't be written.
    """
    check_table_path(path)
    partial = [line for line in counts if "PARTIAL" in line]
    suffix = path.suffix.lower()
    if suffix == ".csv":
        content = ("".join(f"# {printable(line)}\n" for line in partial) + frame.to_csv(index=False)).encode()
    elif suffix == ".tex":
        content = "\n".join(latex(table, partial) for table in tables).encode()
    elif suffix == ".md":
        content = "\n".join(markdown(table, partial) for table in tables).encode()
    elif suffix == ".json":
        rows = json.loads(frame.to_json(orient="records", double_precision=15))
        content = (json.dumps({"counts": list(counts), "rows": rows}, indent=1) + "\n").encode()
    else:
        content = _parquet(frame, counts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise InputError(f"can't write {str(path)!r}: {error.strerror or error}") from error


def latex(table: TextTable, partial: Sequence[str] = ()) -> str:
    """A table for LaTeX's package booktabs, every name escaped; ``partial`` are rows above the headings."""
    width = len(table.headings)
    lines = [
        f"% {printable(table.title)}",
        r"\begin{tabular}{" + "l" * table.names + "r" * (width - table.names) + "}",
        *(rf"\multicolumn{{{width}}}{{l}}{{{escaped(line)}}} \\" for line in partial),
        r"\toprule",
        _latex_row(table.headings),
        r"\midrule",
        *(_latex_row(row) for row in table.rows),
        r"\bottomrule",
        *(rf"\multicolumn{{{width}}}{{l}}{{\footnotesize {escaped(note)}}} \\" for note in table.notes),
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def markdown(table: TextTable, partial: Sequence[str] = ()) -> str:
    """A table for a page in Markdown, below its title, every name escaped; ``partial`` are lines above the table."""
    marks = ["---"] * table.names + ["--:"] * (len(table.headings) - table.names)
    rows = [[_in_markdown(cell) for cell in row] for row in (table.headings, *table.rows)]
    lines = [f"| {' | '.join(row)} |" for row in (rows[0], marks, *rows[1:])]
    above = [f"{_in_markdown(line)}\n" for line in (table.title, *partial)]
    return "\n".join([*above, *lines, *(f"\n{_in_markdown(note)}" for note in table.notes)]) + "\n"


def escaped(text: str) -> str:
    """``text`` in one line, with the letters escaped that mean something to LaTeX."""
    return "".join(_SPECIAL.get(letter, letter) for letter in printable(text))


_SPECIAL = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def _in_markdown(text: str) -> str:
    return "".join(f"\\{letter}" if letter in _MARKDOWN else letter for letter in printable(text))


_MARKDOWN = "\\`*_{}[]<>|#~"


def _latex_row(cells: Sequence[str]) -> str:
    # Braces: a bracket at the beginning of a line would be the optional argument of the line break before it.
    return " & ".join(f"{{{escaped(cell)}}}" if cell.startswith("[") else escaped(cell) for cell in cells) + r" \\"


def _parquet(frame: pd.DataFrame, counts: Sequence[str]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    content = pyarrow.Table.from_pandas(frame, preserve_index=False)
    metadata = {**(content.schema.metadata or {}), b"ssimpert.counts": "\n".join(counts).encode()}
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(content.replace_schema_metadata(metadata), sink)
    written: bytes = sink.getvalue().to_pybytes()
    return written
