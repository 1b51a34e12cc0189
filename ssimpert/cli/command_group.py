"""The group of all commands. A command's file is imported when the command is asked for, and no sooner.

``ssimpert --help`` needs the commands' names and one line about each, which the table of the group has. So help and
errors come without the seconds in which torch is loaded, and without the tenths in which all options are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup

from ssimpert.cli.help_page import PAGE_WIDTH, HelpPage, printable_errors, write_section


@dataclass(frozen=True)
class CommandEntry:
    """A command that has not been imported.

    Attributes:
        module: the module that has a function, or a group of commands, of the command's name.
        summary: the line of the list of commands; the first sentence of the function's docstring.
    """

    module: str
    summary: str

    def load(self, name: str) -> Callable[..., None] | typer.Typer:
        """The command's function, or a group of commands."""
        command: Callable[..., None] | typer.Typer = getattr(import_module(self.module), name)
        return command


class CommandGroup(TyperGroup):
    """The commands of :attr:`entries`; an error about what was typed shows it in printable characters."""

    entries: ClassVar[dict[str, CommandEntry]] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands(self.entries)

    def list_commands(self, ctx: Any) -> list[str]:
        """The names in the order of :attr:`entries`."""
        return list(self.entries)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands, of which none is imported for it."""
        write_section(formatter, "Commands", [(name, entry.summary) for name, entry in self.entries.items()])

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        with printable_errors():
            return super().invoke(ctx)

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Read the options that stand before the command."""
        with printable_errors():
            return super().make_context(*args, **extra)


def group_of_commands(name: str, group: type[CommandGroup], **options: Any) -> typer.Typer:
    """A group of commands for typer: plain help, no traceback of rich.

    Args:
        name: of the group.
        group: has the commands.
        options: as for ``typer.Typer``.
    """
    return typer.Typer(
        name=name,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        cls=group,
        context_settings={"max_content_width": PAGE_WIDTH},
        **options,
    )


class _Commands(MutableMapping[str, Any]):
    """Commands by name, as typer makes them; each is made when it is looked up."""

    def __init__(self, entries: dict[str, CommandEntry]) -> None:
        self._entries = entries
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _typer_command(name, self._entries[name].load(name))
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"command {name!r} is an entry of the group, which can't be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter({**self._entries, **self._made})

    def __len__(self) -> int:
        return len({**self._entries, **self._made})


def _typer_command(name: str, function: Callable[..., None] | typer.Typer) -> Any:
    """``function`` as a command of typer; a group of commands as it is."""
    if isinstance(function, typer.Typer):
        return typer.main.get_command(function)
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command(name, cls=HelpPage, context_settings={"max_content_width": PAGE_WIDTH})(function)
    return typer.main.get_command(alone)
