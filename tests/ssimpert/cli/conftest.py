"""Fixtures of the command line's tests."""

from tests.ssimpert.cli.small_model import command, small

__all__ = ["command", "small"]
