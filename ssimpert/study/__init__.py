"""Studies: any data, many formulations at many levels, several models; every unit computed once and kept.

``Study`` describes a study, ``read_study`` reads it from a TOML file, and ``cells`` lists its columns.
"""

from ssimpert.study.grid import Cell, cells
from ssimpert.study.sections.analysis import AnalysisSection
from ssimpert.study.sections.attack import AttackSection
from ssimpert.study.sections.data import DataSection
from ssimpert.study.sections.formulation import FormulationSection
from ssimpert.study.sections.model import ModelSection
from ssimpert.study.sections.output import OutputSection
from ssimpert.study.study import Study
from ssimpert.study.study_file import StudyFileError, read_study, write_study

__all__ = [
    "AnalysisSection",
    "AttackSection",
    "Cell",
    "DataSection",
    "FormulationSection",
    "ModelSection",
    "OutputSection",
    "Study",
    "StudyFileError",
    "cells",
    "read_study",
    "write_study",
]
