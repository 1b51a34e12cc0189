"""Studies: any data, many formulations at many levels, several models; every unit computed once and kept.

Found here:

* what a study is (``study`` and ``sections``), as a TOML file (``study_file``, ``template``, ``toml_lines``);
* its columns (``grid``), what decides a record (``keys``) and the record's columns (``schema``);
* a model made ready (``loaded_model``), and what is checked before any work (``readiness``);
* the computation of units (``evaluation``), a formulation's perturbation (``formulation_run``), the objects that a unit
  is about (``unit_objects``) and its measures (``unit_scores``);
* the benchmarks of localisation over the records of a study (``localization_benchmarks``).
"""

from ssimpert.study.evaluation import StudyEvaluator
from ssimpert.study.grid import Cell, cells
from ssimpert.study.keys import RESULT_VERSION, cell_digest, unit_key, unit_seed
from ssimpert.study.loaded_model import LoadedModel, load_study_model
from ssimpert.study.localization_benchmarks import localization_benchmarks
from ssimpert.study.readiness import check_ready, model_identities
from ssimpert.study.sections.analysis import AnalysisSection
from ssimpert.study.sections.attack import AttackSection
from ssimpert.study.sections.data import DataSection
from ssimpert.study.sections.formulation import FormulationSection
from ssimpert.study.sections.model import ModelSection
from ssimpert.study.sections.output import OutputSection
from ssimpert.study.study import Study
from ssimpert.study.study_file import StudyFileError, read_study, write_study
from ssimpert.study.template import study_template

__all__ = [
    "RESULT_VERSION",
    "AnalysisSection",
    "AttackSection",
    "Cell",
    "DataSection",
    "FormulationSection",
    "LoadedModel",
    "ModelSection",
    "OutputSection",
    "Study",
    "StudyEvaluator",
    "StudyFileError",
    "cell_digest",
    "cells",
    "check_ready",
    "load_study_model",
    "localization_benchmarks",
    "model_identities",
    "read_study",
    "study_template",
    "unit_key",
    "unit_seed",
    "write_study",
]
