"""``--target``: a class by its name or its number, and the margin that aims at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def class_from_option(target: str) -> int | str:
    """The class's number where the text is one, else its name."""
    text = target.strip()
    return int(text) if text.lstrip("+-").isdecimal() else text
