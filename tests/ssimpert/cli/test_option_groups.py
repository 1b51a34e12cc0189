"""Commands whose options come in groups."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from ssimpert.cli.option_groups import with_option_groups


@dataclass(frozen=True)
class Size:
    """Two options, one of which must be given."""

    width: Annotated[int, typer.Option(help="How wide.")]
    depth: Annotated[int | None, typer.Option("--deep", help="How deep.")] = None


@dataclass(frozen=True)
class Colour:
    """One option."""

    colour: Annotated[str, typer.Option()] = "red"


def command(names: list[str], *, size: Size, colour: Colour, loud: bool = False) -> None:
    """Say what was given."""
    typer.echo(f"{names} {size} {colour} {loud}")


def test_groups_are_made_of_what_was_given() -> None:
    app = typer.Typer()
    app.command()(with_option_groups(command))
    result = CliRunner().invoke(app, ["a", "b", "--deep", "3", "--width", "2", "--loud"])
    assert result.output == "['a', 'b'] Size(width=2, depth=3) Colour(colour='red') True\n"
    assert "Missing option '--width'" in CliRunner().invoke(app, ["a"]).output


def test_options_are_in_the_order_of_the_command() -> None:
    flat = with_option_groups(command)
    assert list(inspect.signature(flat).parameters) == ["names", "width", "depth", "colour", "loud"]
    assert flat.__doc__ == command.__doc__


def test_two_options_of_one_name_are_an_error() -> None:
    def twice(*, size: Size, width: int) -> None:
        """Two widths."""

    with pytest.raises(ValueError, match="duplicate parameter name: 'width'"):
        with_option_groups(twice)
