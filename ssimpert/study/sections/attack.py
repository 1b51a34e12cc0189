"""``[[attack]]``: a baseline that sees no perceptual distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from solvers.validation import as_list
from ssimpert.study.sections.section import (
    OptionError,
    Section,
    at_key,
    read_choice,
    read_class,
    read_name,
    read_numbers,
)
from ssimpert.validation import check_count

FIXED_RADIUS, MINIMAL_NORM = ("l2-pgd", "linf-pgd"), ("ddn", "fmn")
ATTACKS = (*FIXED_RADIUS, *MINIMAL_NORM)


@dataclass(frozen=True, kw_only=True)
class AttackSection(Section):
    """An attack of foolbox (extra ``baselines``), as :func:`ssimpert.foolbox_baseline` runs it.

    Attributes:
        name: ``"l2-pgd"``, ``"linf-pgd"``, ``"ddn"`` or ``"fmn"``.
        passes: how many gradients are taken of each image: a number or several, each of which is a column of the study.
        radius: for ``"l2-pgd"`` and ``"linf-pgd"``: of the ball, a number or several, each a column.
        target: the class to aim at, by its name or number; default: any class but the image's own.
        alias: what tables call the attack; default its name. Two sections of one attack need one.
    """

    section: ClassVar[str] = "attack"

    name: str
    passes: int | tuple[int, ...]
    radius: float | tuple[float, ...] | None = None
    target: int | str | None = None
    alias: str | None = None

    def __post_init__(self) -> None:
        read_choice("name", self.name, ATTACKS)
        if self.alias is not None:
            read_name("alias", self.alias)
        given: Any = self.passes
        entries = as_list(given)
        with at_key("passes"):
            passes = tuple(check_count("passes", entry) for entry in ([given] if entries is None else entries))
        if not passes or len(set(passes)) < len(passes):
            raise OptionError(f"passes must be different numbers, at least one, got {passes!r}", key="passes")
        object.__setattr__(self, "passes", passes)
        if self.target is not None:
            object.__setattr__(self, "target", read_class("target", self.target))
        if self.radius is not None:
            object.__setattr__(self, "radius", read_numbers("radius", self.radius))
        if (self.name in FIXED_RADIUS) != (self.radius is not None):
            fault = "needs a radius" if self.name in FIXED_RADIUS else "looks for the least norm and takes no radius"
            raise OptionError(f"{self.name} {fault}", key="name" if self.radius is None else "radius")
        for radius in self.grid_levels:
            if radius is not None and not radius > 0:
                raise OptionError(f"radius must be positive, got {radius:g}", key="radius")

    @property
    def label(self) -> str:
        """What tables call the attack."""
        return self.alias or self.name

    @property
    def grid_levels(self) -> tuple[float | None, ...]:
        """The radii; one ``None`` for an attack without a radius."""
        if self.radius is None:
            return (None,)
        assert isinstance(self.radius, tuple)
        return self.radius

    @property
    def grid_passes(self) -> tuple[int, ...]:
        """The numbers of passes."""
        assert isinstance(self.passes, tuple)
        return self.passes

    def deciding_options(self, passes: int, radius: float | None) -> dict[str, Any]:
        """What decides the perturbations of a column. The attack's alias decides nothing."""
        return {"name": self.name, "passes": passes, "radius": radius, "target": self.target}
