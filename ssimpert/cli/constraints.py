"""The formulations' options as the command line has them, and from what was typed to a constraint set.

The formulations themselves are in :mod:`ssimpert.formulations`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ssimpert.cli.errors import UsageError, naming_flags
from ssimpert.cli.feature_balls import FeatureBallSet, parse_feature_values
from ssimpert.cli.numbers import number_from_text
from ssimpert.formulations import constraint_sets
from ssimpert.formulations.names import ConstraintName, Formulation
from ssimpert.formulations.options import LP_ORDER, OPTIONS

if TYPE_CHECKING:
    from solvers.constraints import Constraint

__all__ = [
    "LP_ORDER",
    "OPTIONS",
    "ConstraintName",
    "Formulation",
    "build_constraint",
    "option_help",
    "parse_luminance",
    "parse_mean_luminance",
    "parse_sigma",
    "values_of",
]

# The options that take a number or a word; ``None`` among their defaults is the word "none".
TEXTS = ("sigma", "luminance", "l2_radius")


def option_help(option: str, text: str, default: str | None = None) -> str:
    """What ``--help`` says of an option: the formulations that take it, ``text``, and the default for each.

    ``default`` is for options whose default is no value of its own.
    """
    defaults = {name.value: _shown(options[option]) for name, options in OPTIONS.items() if option in options}
    distinct = set(defaults.values())
    if default is None:
        default = (
            distinct.pop() if len(distinct) == 1 else ", ".join(f"{entry} ({name})" for name, entry in defaults.items())
        )
    return f"{', '.join(defaults)}: {text}. Default {default}."


def values_of(formulation: Formulation, given: dict[str, Any]) -> dict[str, Any]:
    """The options of ``formulation``, each as given, or its default; options that take words as texts.

    ``given`` has every option of every formulation, ``None`` where the user did not give it.

    Raises:
        UsageError: an option of another formulation; the message names the option.
    """
    own = OPTIONS[formulation]
    for option, value in given.items():
        if value is not None and option not in own:
            flags = ", ".join(f"--{own_option.replace('_', '-')}" for own_option in own)
            raise UsageError(
                f"--{option.replace('_', '-')} does not belong to {formulation.value}, which takes {flags}"
            )
    defaults = {option: _shown(entry) if option in TEXTS else entry for option, entry in own.items()}
    return defaults | {option: entry for option, entry in given.items() if entry is not None}


def build_constraint(name: ConstraintName, given: dict[str, Any]) -> Constraint | FeatureBallSet:
    """The set called ``name``; ``given`` has every option of every set, ``None`` where the user did not give it.

    Raises:
        UsageError: an option of another set; the message names the option.
        ProblemError, InputError: a value out of range; the message names the option.
    """
    values = values_of(name, given)
    if name is ConstraintName.FEATURE_BALL:
        values = parse_feature_values(values)
    if "sigma" in values:
        values["sigma"] = parse_sigma(values["sigma"])
    if "luminance" in values:
        parse = parse_luminance if name is ConstraintName.WINDOW_SSIM else parse_mean_luminance
        values["luminance"] = parse(values["luminance"])
    with naming_flags():
        return constraint_sets.build_constraint(name, values)


def parse_sigma(text: str) -> float | None:
    """The value of ``--sigma``: a number, or ``None`` for "none", which means uniform weights."""
    return None if text == "none" else number_from_text("--sigma", text, "a number or 'none'")


def parse_luminance(text: str) -> float | Literal["split", "preserve"] | None:
    """The value of ``--luminance`` for window-ssim: "split", "preserve" or a number."""
    if text == "split":
        return "split"
    if text == "preserve":
        return "preserve"
    return number_from_text("--luminance of window-ssim", text, "a number, 'split' or 'preserve'")


def parse_mean_luminance(text: str) -> float | Literal["split", "preserve"] | None:
    """The value of ``--luminance`` for mean-ssim: ``None`` for "none", "preserve" or a number."""
    if text == "none":
        return None
    if text == "preserve":
        return "preserve"
    return number_from_text("--luminance of mean-ssim", text, "a number, 'preserve' or 'none'")


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
