"""A report as one HTML file: nothing is loaded, and nothing that the data says is run.

Three things see to that. Jinja2 escapes every text (autoescape). Data for the script is in blocks of JSON in which
``<``, ``>`` and ``&`` are escapes, and the script sets texts and never HTML. And the page's Content-Security-Policy
allows only the two inline blocks with the hashes of our script and style sheet, and pictures within the page; whatever
else might get into the page neither runs nor reaches the network.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import ssimpert.report.html.bundle as bundle
from ssimpert.atomic_files import write_atomically
from ssimpert.errors import InputError
from ssimpert.escaping import printable
from ssimpert.report.html.line_plot import plot_svg
from ssimpert.report.html.view import PhotoView, ReportView, Table


def report_page(view: ReportView) -> str:
    """The report as an HTML document."""
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            view=view,
            script=Markup(bundle.script()),
            style=Markup(bundle.style_sheet()),
            policy=content_security_policy(),
        )
    )


def write_report(view: ReportView, path: Path) -> None:
    """Write the report to ``path``, whole or not at all.

    Raises:
        InputError: the file can't be written.
    """
    try:
        write_atomically(path, report_page(view).encode("utf-8"))
    except OSError as error:
        raise InputError(f"can't write {str(path)!r}: {error.strerror or error}") from error


def content_security_policy() -> str:
    """What a browser may run and load: our script, our style sheet, and pictures within the page."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash(bundle.script())}",
            f"style-src {_hash(bundle.style_sheet())}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ssimpert.report.html", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Names of files may hold characters that are no text; these would also keep the page from being UTF-8.
    environment.filters |= {"printable": printable, "plot": plot_svg, "pictures": pictures_of, "table": table_values}
    return environment


def pictures_of(photo: PhotoView) -> dict[str, Any]:
    """The pictures of a photo for the script. A layer that is the difference is named, not stored twice."""
    difference = photo.difference.picture.uri if photo.difference else None
    return {
        "photo": photo.photo.uri if photo.photo else None,
        "perturbed": photo.perturbed.uri if photo.perturbed else None,
        "difference": difference,
        "layers": ["difference" if layer.picture.uri == difference else layer.picture.uri for layer in photo.layers],
    }


def table_values(table: Table) -> dict[str, Any]:
    """A table for the script."""
    return {
        "name": table.name,
        "columns": [
            {
                "field": f"c{k}",
                "title": printable(column.title),
                "kind": column.kind,
                "unit": printable(column.unit),
                "digits": column.digits,
                "link": None if column.link is None else f"c{column.link}",
                "hidden": column.hidden,
                "firstFilter": column.first_filter,
            }
            for k, column in enumerate(table.columns)
        ],
        "rows": [[printable(value) if isinstance(value, str) else value for value in row] for row in table.rows],
    }
