"""``[out]``: what is kept beside the records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ssimpert.study.sections.section import Section, read_choice

ARRAYS = ("none", "delta", "images")


@dataclass(frozen=True, kw_only=True)
class OutputSection(Section):
    """What is kept of each unit beside its numbers.

    Attributes:
        arrays: ``"none"`` (default), ``"delta"`` (the perturbation in float16) or ``"images"`` (the perturbed image in
            8-bit pixels, rounded).
    """

    section: ClassVar[str] = "out"

    arrays: str = "none"

    def __post_init__(self) -> None:
        read_choice("arrays", self.arrays, ARRAYS)
