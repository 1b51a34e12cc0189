"""Studies: any data, many formulations at many levels, several models; every unit computed once and kept.

Found here:

* what a study is (``study`` and ``sections``), as a TOML file (``study_file``, ``template``, ``toml_lines``);
* its columns (``grid``), what decides a record (``keys``) and the record's columns (``schema``);
* a model made ready (``loaded_model``), and what is checked before any work (``readiness``);
* the computation of units (``evaluation``), a formulation's perturbation (``formulation_run``), the objects that a unit
  is about (``unit_objects``) and its measures (``unit_scores``);
* the units that are asked for (``declared``), the index of the items (``item_index``), and how a study changed
  (``changes``) or is joined (``joining``);
* the folder with its records and its lock (``store``), the run (``running``) and how far it is (``status``);
* tables, curves and comparisons (``outputs``);
* the benchmarks of localisation over the records of a study (``object_benchmarks``).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssimpert.study.evaluation import StudyEvaluator as StudyEvaluator
    from ssimpert.study.grid import Cell as Cell
    from ssimpert.study.grid import cells as cells
    from ssimpert.study.joining import join_studies as join_studies
    from ssimpert.study.keys import RESULT_VERSION as RESULT_VERSION
    from ssimpert.study.keys import cell_digest as cell_digest
    from ssimpert.study.keys import unit_key as unit_key
    from ssimpert.study.keys import unit_seed as unit_seed
    from ssimpert.study.loaded_model import LoadedModel as LoadedModel
    from ssimpert.study.loaded_model import load_study_model as load_study_model
    from ssimpert.study.object_benchmarks import localization_benchmarks as localization_benchmarks
    from ssimpert.study.outputs.comparison import compare_studies as compare_studies
    from ssimpert.study.outputs.curves import curves as curves
    from ssimpert.study.outputs.results import StudyResults as StudyResults
    from ssimpert.study.outputs.results import load_results as load_results
    from ssimpert.study.outputs.results import score_frame as score_frame
    from ssimpert.study.outputs.results import unit_frame as unit_frame
    from ssimpert.study.outputs.table import paired_columns as paired_columns
    from ssimpert.study.outputs.table import pivot as pivot
    from ssimpert.study.readiness import check_ready as check_ready
    from ssimpert.study.readiness import model_identities as model_identities
    from ssimpert.study.running.run import RunSummary as RunSummary
    from ssimpert.study.running.run import run_study as run_study
    from ssimpert.study.sections.analysis import AnalysisSection as AnalysisSection
    from ssimpert.study.sections.attack import AttackSection as AttackSection
    from ssimpert.study.sections.data import DataSection as DataSection
    from ssimpert.study.sections.formulation import FormulationSection as FormulationSection
    from ssimpert.study.sections.model import ModelSection as ModelSection
    from ssimpert.study.sections.output import OutputSection as OutputSection
    from ssimpert.study.status import StudyStatus as StudyStatus
    from ssimpert.study.status import study_status as study_status
    from ssimpert.study.study import Study as Study
    from ssimpert.study.study_file import StudyFileError as StudyFileError
    from ssimpert.study.study_file import read_study as read_study
    from ssimpert.study.study_file import write_study as write_study
    from ssimpert.study.template import study_template as study_template

# Imported at the first use: to look at a study's folder takes no torch.
_MODULES = {
    "AnalysisSection": "ssimpert.study.sections.analysis",
    "AttackSection": "ssimpert.study.sections.attack",
    "Cell": "ssimpert.study.grid",
    "DataSection": "ssimpert.study.sections.data",
    "FormulationSection": "ssimpert.study.sections.formulation",
    "LoadedModel": "ssimpert.study.loaded_model",
    "ModelSection": "ssimpert.study.sections.model",
    "OutputSection": "ssimpert.study.sections.output",
    "RESULT_VERSION": "ssimpert.study.keys",
    "RunSummary": "ssimpert.study.running.run",
    "Study": "ssimpert.study.study",
    "StudyEvaluator": "ssimpert.study.evaluation",
    "StudyFileError": "ssimpert.study.study_file",
    "StudyResults": "ssimpert.study.outputs.results",
    "StudyStatus": "ssimpert.study.status",
    "cell_digest": "ssimpert.study.keys",
    "cells": "ssimpert.study.grid",
    "check_ready": "ssimpert.study.readiness",
    "compare_studies": "ssimpert.study.outputs.comparison",
    "curves": "ssimpert.study.outputs.curves",
    "join_studies": "ssimpert.study.joining",
    "load_results": "ssimpert.study.outputs.results",
    "load_study_model": "ssimpert.study.loaded_model",
    "localization_benchmarks": "ssimpert.study.object_benchmarks",
    "model_identities": "ssimpert.study.readiness",
    "paired_columns": "ssimpert.study.outputs.table",
    "pivot": "ssimpert.study.outputs.table",
    "read_study": "ssimpert.study.study_file",
    "run_study": "ssimpert.study.running.run",
    "score_frame": "ssimpert.study.outputs.results",
    "study_status": "ssimpert.study.status",
    "study_template": "ssimpert.study.template",
    "unit_frame": "ssimpert.study.outputs.results",
    "unit_key": "ssimpert.study.keys",
    "unit_seed": "ssimpert.study.keys",
    "write_study": "ssimpert.study.study_file",
}

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
    "RunSummary",
    "Study",
    "StudyEvaluator",
    "StudyFileError",
    "StudyResults",
    "StudyStatus",
    "cell_digest",
    "cells",
    "check_ready",
    "compare_studies",
    "curves",
    "join_studies",
    "load_results",
    "load_study_model",
    "localization_benchmarks",
    "model_identities",
    "paired_columns",
    "pivot",
    "read_study",
    "run_study",
    "score_frame",
    "study_status",
    "study_template",
    "unit_frame",
    "unit_key",
    "unit_seed",
    "write_study",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
