"""The help page of a command: plain text, a list of options under each heading.

typer's own page with frames imports rich's Markdown and tracebacks and pygments, which takes longer than everything
else that ``--help`` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from typing import Any

from typer.core import TyperCommand

from ssimpert.escaping import printable

OPTIONS_HEADING = "Options"
# The columns of a page, where the terminal has as many; those of a name that has its text beside it, not below; and
# those between name and text.
PAGE_WIDTH, LONGEST_NAME, GAP = 100, 28, "  "
# What pydantic, by which typer reads values, puts before a message.
PREFIX = "Value error, "


class HelpPage(TyperCommand):
    """A command whose options stand under their headings (``rich_help_panel``), in the order of declaration."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Read the options; where one does not exist, say how the name of a file may begin with a dash."""
        try:
            return super().make_context(info_name, list(args), parent, **extra)
        except Exception as error:
            # Errors of usage, of click or of the copy of click within typer.
            option = getattr(error, "option_name", None)
            word = next((word for word in args if option and word.startswith(option)), None)
            if word is not None and (not word.startswith("--") or Path(word).exists()):
                error.message = f"{error.message}. A file whose name begins with a dash goes after --, or is ./{word}"  # type: ignore[attr-defined]
            raise

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a list of arguments or options under each heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                is_argument = parameter.param_type_name == "argument"
                heading = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or OPTIONS_HEADING
                sections.setdefault(heading, []).append(record)
        # The options without a heading of their own come last: they are the same in most commands.
        sections |= {heading: sections.pop(heading) for heading in [OPTIONS_HEADING] if heading in sections}
        for heading, records in sections.items():
            write_section(formatter, heading, records)


def write_section(formatter: Any, heading: str, records: list[tuple[str, str]]) -> None:
    """Write names and texts in two columns. Unlike click's own lists, no word is broken at its hyphens."""
    left = min(max(len(name) for name, _ in records), LONGEST_NAME)
    with formatter.section(heading):
        margin = " " * formatter.current_indent
        for name, text in records:
            lines = wrap(text, formatter.width - len(margin) - left - len(GAP), break_on_hyphens=False)
            beside = lines[:1] if len(name) <= left else []
            formatter.write(f"{margin}{name:<{left}}{GAP}{''.join(beside)}".rstrip() + "\n")
            for line in lines[len(beside) :]:
                formatter.write(f"{margin}{'':<{left}}{GAP}{line}\n")


@contextmanager
def printable_errors() -> Iterator[None]:
    """Within this context an error about what was typed shows it in printable characters."""
    try:
        yield
    except Exception as error:
        if isinstance(message := getattr(error, "message", None), str):
            error.message = printable(message.removeprefix(PREFIX))  # type: ignore[attr-defined]
        raise
