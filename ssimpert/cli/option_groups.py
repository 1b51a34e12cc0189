"""Options that several commands share, declared once. A dataclass is a group, and its fields are the options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` as typer takes it: each parameter that is a dataclass becomes one parameter for each of its fields.

    Fields are annotated, and have defaults, like typer's own parameters. When the command runs, the dataclasses are
    made from the given options.

    Raises:
        ValueError: two options have the same name.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters.values()
    groups = {parameter.name: hints[parameter.name] for parameter in parameters if is_dataclass(hints[parameter.name])}
    options: list[inspect.Parameter] = []
    for parameter in parameters:
        options += _options(groups[parameter.name]) if parameter.name in groups else [_option(parameter, hints)]

    @wraps(command)
    def flat(**given: Any) -> None:
        group_values = {
            name: group(**{entry.name: given.pop(entry.name) for entry in fields(group)})
            for name, group in groups.items()
        }
        command(**given, **group_values)

    # typer takes the defaults from the signature and the types from the annotations.
    flat.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    flat.__annotations__ = {option.name: option.annotation for option in options}
    return flat


def _option(parameter: inspect.Parameter, hints: dict[str, Any]) -> inspect.Parameter:
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name])


def _options(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            entry.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if entry.default is MISSING else entry.default,
            annotation=hints[entry.name],
        )
        for entry in fields(group)
    ]
