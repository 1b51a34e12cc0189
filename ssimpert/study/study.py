"""``Study``: data, models, formulations, attacks and analyses, described and checked before any work.

The names of the sections' fields are those of the study file (:mod:`ssimpert.study.study_file`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ssimpert.study.sections.analysis import OBJECT_METRICS, AnalysisSection
from ssimpert.study.sections.attack import AttackSection
from ssimpert.study.sections.data import KINDS_WITHOUT_OBJECTS, DataSection
from ssimpert.study.sections.formulation import FormulationSection
from ssimpert.study.sections.model import ModelSection
from ssimpert.study.sections.output import OutputSection
from ssimpert.study.sections.section import OptionError, at_key, check_distinct, read_name, section_from, sections_from
from ssimpert.validation import check_count, check_seed

STUDY_SECTION = "study"
"""The section of a study file that has the name, the seed and the repeats."""

Keys = Mapping[str, Any]
"""A section as a mapping of its keys."""


@dataclass(frozen=True, init=False)
class Study:
    """A grid of cells by items: every model with every formulation and every attack, on every item of the data.

    Attributes:
        name: what reports call the study.
        seed: everything random derives from this number and the unit's key.
        repeats: how often every unit is computed, each time with a seed of its own.
        data: where the items come from.
        models: the classifiers.
        formulations: constraint sets or perceptual balls, with their levels.
        attacks: baselines.
        analysis: what is measured of each perturbation.
        out: what is kept beside the records.
    """

    name: str
    seed: int
    repeats: int
    data: tuple[DataSection, ...]
    models: tuple[ModelSection, ...]
    formulations: tuple[FormulationSection, ...]
    attacks: tuple[AttackSection, ...]
    analysis: AnalysisSection
    out: OutputSection

    def __init__(
        self,
        name: str,
        *,
        data: Sequence[DataSection | Keys] | DataSection | Keys,
        models: Sequence[ModelSection | Keys] | ModelSection | Keys,
        formulations: Sequence[FormulationSection | Keys] | FormulationSection | Keys = (),
        attacks: Sequence[AttackSection | Keys] | AttackSection | Keys = (),
        analysis: AnalysisSection | Keys | None = None,
        out: OutputSection | Keys | None = None,
        seed: int = 0,
        repeats: int = 1,
    ) -> None:
        """Describe a study. Nothing is loaded or computed, but every value is checked.

        Each section may be given as a mapping with the keys of the study file, such as ``{"kind": "samples"}``. One
        section stands for a list of one.

        Args:
            name: what reports call the study.
            data: where the items come from, one section or more.
            models: the classifiers, one section or more.
            formulations: constraint sets or perceptual balls, with their levels.
            attacks: baselines; at least one formulation or one attack is needed.
            analysis: what is measured of each perturbation; default: the agreement with Grad-CAM.
            out: what is kept beside the records; default: nothing.
            seed: everything random derives from this number and the unit's key; default 0.
            repeats: how often every unit is computed, each time with a seed of its own; default 1.

        Raises:
            InputError: a section that is missing, a name that is used twice, or a value that a section does not take;
                the message names the section, the value and what would be valid.
        """
        try:
            sections = {
                "name": read_name("name", name),
                "seed": _checked("seed", lambda: check_seed(seed)),
                "repeats": _checked("repeats", lambda: check_count("repeats", repeats)),
            }
        except OptionError as error:
            raise error.within(STUDY_SECTION, 0, STUDY_SECTION) from error
        sections |= {
            "data": sections_from(DataSection, data),
            "models": sections_from(ModelSection, models),
            "formulations": sections_from(FormulationSection, formulations),
            "attacks": sections_from(AttackSection, attacks),
            "analysis": section_from(AnalysisSection, {} if analysis is None else analysis),
            "out": section_from(OutputSection, {} if out is None else out),
        }
        for field, value in sections.items():
            object.__setattr__(self, field, value)
        self._check_together()

    def _check_together(self) -> None:
        """What no section can check alone."""
        for section, given in (("data", self.data), ("model", self.models)):
            if not given:
                raise OptionError(f"a study needs at least one [[{section}]] section", section=STUDY_SECTION)
        if not self.formulations and not self.attacks:
            raise OptionError(
                "a study needs at least one [[formulation]] or one [[attack]] section", section=STUDY_SECTION
            )
        check_distinct("data", "name", [section.label for section in self.data])
        check_distinct("model", "alias", [section.label for section in self.models])
        check_distinct("formulation", "name", [section.name for section in self.formulations])
        check_distinct("attack", "alias", [section.label for section in self.attacks])
        self._check_no_column_twice()
        self._check_objects()

    def _check_objects(self) -> None:
        """Raise :class:`OptionError` where a metric asks for objects that a data set never has."""
        for section in self.data:
            if self.analysis.needs_objects and section.kind in KINDS_WITHOUT_OBJECTS:
                asking = [name for name in self.analysis.metrics if name in OBJECT_METRICS]
                raise OptionError(
                    f"analysis: the metrics {', '.join(asking)} need objects, and data of kind {section.kind!r} have "
                    f"none; leave the metrics or the data out",
                    section="analysis",
                    key="metrics",
                )

    def _check_no_column_twice(self) -> None:
        """Raise :class:`OptionError` for two sections that would compute the same units under two names."""
        earlier: list[tuple[str, str, dict[str, Any]]] = []
        columns = [
            ("formulation", index, section.name, section.deciding_options(level))
            for index, section in enumerate(self.formulations)
            for level in section.grid_levels
        ]
        columns += [
            ("attack", index, section.label, section.deciding_options(passes, level))
            for index, section in enumerate(self.attacks)
            for level in section.grid_levels
            for passes in section.grid_passes
        ]
        for kind, index, name, options in columns:
            for other_kind, other, other_options in earlier:
                if kind == other_kind and options == other_options:
                    raise OptionError(
                        f"{kind} {name!r} computes the same as {kind} {other!r}; leave one of them out",
                        section=kind,
                        index=index,
                    )
            earlier.append((kind, name, options))


def _checked(key: str, check: Any) -> Any:
    with at_key(key):
        return check()
