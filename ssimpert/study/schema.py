"""The columns of a record, as an Arrow schema.

Every column belongs to one of three groups:

- labels: names that somebody chose, such as the formulation's. They decide nothing, and a renamed formulation keeps
  its records. :func:`relabelled` puts today's names in place of those with which records were written.
- deterministic columns: the key decides them. Two records of one key must be equal in them.
- provenance: where, when and with how many others a unit was computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from ssimpert.study.grid import CELL_COLUMNS
from ssimpert.study.study import Study

CELL_TYPES = (
    pa.string(), pa.string(), pa.float64(), pa.string(), pa.string(), pa.string(), pa.int64(), pa.int64(),
)  # fmt: skip
"""The types of :data:`ssimpert.study.grid.CELL_COLUMNS`."""

OUTCOME: dict[str, pa.DataType] = {
    "success": pa.bool_(),
    "label_before": pa.int64(),
    "label_after": pa.int64(),
    "margin_before": pa.float64(),
    "margin_after": pa.float64(),
    "l2_norm": pa.float64(),
    "linf_norm": pa.float64(),
    "ssim": pa.float64(),
    "min_window_ssim": pa.float64(),
    "contrast_distance": pa.float64(),
    "violation": pa.float64(),
    "rel_gap": pa.float64(),
    "steps": pa.int64(),
    "shrink_share": pa.float64(),
    "found_level": pa.float64(),
    "found_level_unit": pa.string(),
    "verdict": pa.string(),
    "message": pa.string(),
    "object_class": pa.string(),
    "object_difficult": pa.bool_(),
}
"""What became of a unit.

``rel_gap`` is the relative gap of the last step's certificate, NaN where no step was certified. ``found_level`` is NaN
unless the level was searched for; its unit is that of :class:`ssimpert.MinimalBudgetResult`. ``verdict`` is empty
unless the perturbation was quantised. ``object_class`` is the class whose objects the metrics of localisation are
about, empty where there is none; ``object_difficult`` says whether this is a difficult pair of the pointing game.
"""

SCORE = pa.struct(
    [
        ("method", pa.string()),
        ("map", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("p_value", pa.float64()),
        ("reason", pa.string()),
    ]
)
"""One measure of one map; ``p_value`` is NaN where there is none, ``reason`` says why ``value`` is NaN."""

BOX_CURVE = pa.struct(
    [
        ("method", pa.string()),
        ("map", pa.string()),
        ("kind", pa.string()),
        ("values", pa.list_(pa.float64())),
    ]
)
"""The intersection over union of one map's boxes with the objects' boxes at every threshold.

Kinds: ``"iou_largest"`` and ``"iou_best"`` at the 255 thresholds of MaxBoxAcc; ``"value"``, ``"energy"`` and ``"mean"``
at the published alphas of :data:`ssimpert.analysis.localization.thresholded_boxes.ALPHAS`. A map that estimates nothing
has NaN; "energy" and "mean" are empty for a map with negative values, of which they mean nothing.
"""

PROVENANCE: dict[str, pa.DataType] = {
    "seconds": pa.float64(),
    "writer": pa.string(),
    "worker": pa.string(),
    "device": pa.string(),
    "batch": pa.int64(),
}
"""The columns about where a record comes from. ``batch`` is the number of units that were computed together."""

LABELS = ("data", "item", "model", "formulation", "attack", "labels")
"""The columns with names, which decide nothing."""


def record_schema(study: Study) -> pa.Schema:
    """The columns of a record of ``study``, in order."""
    fields: dict[str, pa.DataType] = {
        "key": pa.string(),
        "cell": pa.string(),
        "data": pa.string(),
        "item": pa.string(),
        "identity": pa.string(),
        **dict(zip(CELL_COLUMNS, CELL_TYPES, strict=True)),
        "seed": pa.int64(),
        "labels": pa.map_(pa.string(), pa.string()),
        **OUTCOME,
        "scores": pa.list_(SCORE),
    }
    if "localization" in study.analysis.metrics:
        fields["box_curves"] = pa.list_(BOX_CURVE)
    if study.out.arrays != "none":
        fields |= {study.out.arrays: pa.binary(), "array_shape": pa.list_(pa.int32())}
    fields |= PROVENANCE
    return pa.schema([pa.field(name, kind) for name, kind in fields.items()])


def deterministic_columns(schema: pa.Schema) -> tuple[str, ...]:
    """The columns of ``schema`` that the key decides, in order."""
    return tuple(name for name in schema.names if name not in PROVENANCE and name not in LABELS)


def relabelled(table: pa.Table, names: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """``table`` with the names that its cells have now.

    Args:
        table: records.
        names: for the digest of every cell (the column ``cell``), the cell's :attr:`~ssimpert.study.Cell.names`. A
            record of another cell keeps its names.
    """
    digests = table.column("cell").to_pylist()
    for name in ("model", "formulation", "attack"):
        old = table.column(name).to_pylist()
        new = [
            str(names[digest][name]) if digest in names else value for digest, value in zip(digests, old, strict=True)
        ]
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.schema.field(index), pa.array(new, pa.string()))
    return table
