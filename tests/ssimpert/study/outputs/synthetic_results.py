"""Results of studies, made without a model: records of the schema of studies with chosen numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ssimpert import study
from ssimpert.study.declared import DeclaredCell
from ssimpert.study.outputs.results import StudyResults
from ssimpert.study.schema import record_schema
from ssimpert.study.status import Counts

STUDY = study.Study(
    "synthetic",
    data={"kind": "composites", "n": 1},
    models={"name": "small"},
    formulations={"name": "ball", "constraint": "l2"},
)
SCHEMA = record_schema(STUDY)
DEFAULTS: dict[str, Any] = {
    **{field.name: "" for field in SCHEMA if pa.types.is_string(field.type)},
    "data": "composites",
    "model": "small",
    "passes": None,
    "repeat": 0,
    "labels": {},
    "scores": [],
    "success": True,
    "level": None,
}


def cell(formulation: str, level: float | None, unit: str = "threshold", **names: Any) -> dict[str, Any]:
    """The names of a column of a study."""
    return {"formulation": formulation, "level": level, "level_unit": unit, "engine": "engine"} | names


def attack(name: str, passes: int, level: float | None = None) -> dict[str, Any]:
    """The names of an attack's column."""
    unit = "" if level is None else "radius"
    return {"attack": name, "passes": passes, "level": level, "level_unit": unit, "engine": ""}


def score(
    kind: str, metric: str, value: float, method: str = "perturbation", p_value: float = np.nan
) -> dict[str, Any]:
    """One entry of the column ``scores``."""
    reason = "the map is constant" if np.isnan(value) else ""
    return {"method": method, "map": kind, "metric": metric, "value": value, "p_value": p_value, "reason": reason}


def unit(names: Mapping[str, Any], item: str, **outcome: Any) -> dict[str, Any]:
    """One record."""
    identity = hashlib.sha256(item.encode()).hexdigest()
    record = DEFAULTS | {"item": item, "identity": identity} | dict(names) | outcome
    record["key"] = hashlib.sha256(repr(sorted(record.items(), key=str)).encode()).hexdigest()[:32]
    return record


def results_of(records: Sequence[Mapping[str, Any]], *, failed: int = 0, missing: int = 0, name: str = "synthetic",
               cells: Sequence[DeclaredCell] = ()) -> StudyResults:  # fmt: skip
    """The results that consist of ``records``, in that order."""
    rows = [{field: record.get(field) for field in SCHEMA.names} for record in records]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    counts = Counts(len(rows) + failed + missing, len(rows), failed)
    return StudyResults(name, table, counts, cells=tuple(cells))
