"""Calls that describe studies."""

from __future__ import annotations

import tempfile
from typing import Any

from ssimpert import study
from ssimpert.study.schema import record_schema
from tests.ssimpert.numbers_of_any_kind.inputs import Calls
from tests.ssimpert.study.outputs.synthetic_results import cell, results_of, unit


def described(**options: Any) -> study.Study:
    sections: dict[str, Any] = {
        "data": {"kind": "samples"},
        "models": {"name": "small"},
        "formulations": {"name": "ball", "constraint": "l2"},
    }
    return study.Study("numbers", **(sections | options))


def formulation(constraint: str, **options: Any) -> study.FormulationSection:
    return study.FormulationSection(name="set", constraint=constraint, **options)


def benchmarks(**options: Any) -> Any:
    made = study.Study(
        "numbers",
        data={"kind": "composites", "n": 1},
        models={"name": "small"},
        formulations={"name": "ball", "constraint": "l2"},
    )
    table = record_schema(made).empty_table()
    return study.localization_benchmarks(table, **options).columns.tolist()


def results() -> study.StudyResults:
    levels = [cell("tiles", 0.9), cell("tiles", 0.5)]
    return results_of([unit(names, f"photo {k}", l2_norm=k / 4, ssim=0.5) for names in levels for k in range(4)])


def run(**options: Any) -> Any:
    """A run that is stopped before its first unit."""
    made = described(data={"kind": "samples", "names": ["chelsea"]}, models={"name": "efficientnet-lite0"})
    with tempfile.TemporaryDirectory() as folder:
        return study.run_study(made, folder, stop=lambda: True, **options).counts.declared


BOOTSTRAP = {"confidence": 0.75, "resamples": 30, "seed": 3}

CALLS: Calls = {
    "ssimpert.study.run_study": (run, {"workers": 1, "batch_size": 2, "shard": (0, 1)}),
    "ssimpert.study.pivot": (lambda **o: study.pivot(results(), "l2_norm", **o).to_dict(), BOOTSTRAP),
    "ssimpert.study.paired_columns": (
        lambda **o: study.paired_columns(results(), "l2_norm", **o).to_dict(),
        BOOTSTRAP,
    ),
    "ssimpert.study.curves": (
        lambda **o: [one.low.tolist() for one in study.curves(results(), "l2_norm", **o)],
        BOOTSTRAP,
    ),
    "ssimpert.study.compare_studies": (
        lambda **o: study.compare_studies(results(), results(), ["l2_norm"], **o).table.to_dict(),
        BOOTSTRAP,
    ),
    "ssimpert.study.localization_benchmarks": (benchmarks, {"seed": 3}),
    "ssimpert.study.unit_seed": (lambda **o: study.unit_seed(key="abc", **o), {"study_seed": 3}),
    "ssimpert.Study": (described, {"seed": 3, "repeats": 2}),
    "ssimpert.study.FormulationSection": (
        lambda **o: formulation("window-ssim", **o),
        {
            "threshold": (0.75, 0.5),
            "luminance": 0.125,
            "steps": 3,
            "margin_by": 0.25,
            "target": 3,
            "eps_rel": 0.25,
            "max_iter": 7,
        },
    ),
    "ssimpert.study.FormulationSection: SSIM distance": (
        lambda **o: formulation("global-ssim", **o),
        {"distance": (0.25, 0.125)},
    ),
    "ssimpert.study.FormulationSection: least level": (
        lambda **o: formulation("l2", budget="minimal", **o),
        {"radius": 0.5, "rounds": 3, "tolerance": 0.25, "candidates": 2},
    ),
    "ssimpert.study.FormulationSection: feature ball": (
        lambda **o: formulation("feature-ball", **o),
        {"l2_radius": 0.5},
    ),
    "ssimpert.study.FormulationSection: penalised": (
        lambda **o: formulation("perceptual-ball", **o),
        {"gamma": (8.0, 2.0), "pixel_weight": 0.5, "wanted_margin": -0.25},
    ),
    "ssimpert.study.FormulationSection: constrained": (
        lambda **o: formulation("perceptual-ball-constrained", **o),
        {"step_norm": 0.5},
    ),
    "ssimpert.study.AttackSection": (
        lambda **o: study.AttackSection(**({"name": "l2-pgd", "passes": 3, "radius": 0.5} | o)),
        {"passes": (3, 5), "radius": (0.5, 0.25)},
    ),
    "ssimpert.study.AttackSection: a class": (
        lambda **o: study.AttackSection(name="ddn", passes=3, **o),
        {"target": 3},
    ),
    "ssimpert.study.AnalysisSection": (lambda **o: study.AnalysisSection(**o), {"shifts": 210}),
    "ssimpert.study.ModelSection": (lambda **o: study.ModelSection(name="small", **o), {"input_size": 64}),
}
