"""``[[data]]``: where items come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ssimpert.study.sections.section import Section, read_name


@dataclass(frozen=True, kw_only=True)
class DataSection(Section):
    """A data set by its kind, with the options of that kind.

    In a study file, and in a mapping, the options stand beside ``kind`` and ``name``.

    Attributes:
        kind: such as ``"composites"``, ``"folder"`` or ``"voc"``.
        name: what tables call the data; default its kind. Two data sets of one kind need one.
        options: the options of that kind.
    """

    section: ClassVar[str] = "data"

    kind: str
    name: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        read_name("kind", self.kind)

    @property
    def label(self) -> str:
        """What tables call the data."""
        return self.name or self.kind
