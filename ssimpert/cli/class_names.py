"""``--target``: a class by its name or its number, and the margin that aims at it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ssimpert.cli.exit_codes import options_are_at_fault

if TYPE_CHECKING:
    from ssimpert.linearization import Margin
    from ssimpert.models import Classifier


def margin_for_target(target: str | None, classifier: Classifier) -> Margin:
    """The margin that ``--target`` asks for; without a target any class but the image's own.

    Digits are the class's number, any other text is its name.

    Raises:
        UsageError: the classifier has no such class, or several by that name.
    """
    from ssimpert.linearization import Targeted, Untargeted
    from ssimpert.linearization.margins import margin_for

    if target is None:
        return Untargeted()
    with options_are_at_fault():
        margin = margin_for(Targeted(class_from_option(target)), classifier)
        margin.check(len(classifier.labels))
    return margin


def target_number(target: str | None, classifier: Classifier) -> int | None:
    """The number of the class that ``--target`` names; None without a target.

    Raises:
        UsageError: as for :func:`margin_for_target`.
    """
    from ssimpert.linearization import Targeted

    margin = margin_for_target(target, classifier)
    return int(margin.target) if isinstance(margin, Targeted) else None


def recorded_target(target: str | None) -> dict[str, Any]:
    """``--target`` for a record, as far as it is known without a model: empty where the target is a name."""
    number = None if target is None else class_from_option(target)
    return {} if isinstance(number, str) else {"target": number}


def class_from_option(target: str) -> int | str:
    """The class's number where the text is one, else its name."""
    text = target.strip()
    return int(text) if text.lstrip("+-").isdecimal() else text
