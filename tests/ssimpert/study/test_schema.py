"""The columns of records: three groups, and names that follow the study."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from ssimpert.study import Study, cells
from ssimpert.study.grid import CELL_COLUMNS
from ssimpert.study.schema import LABELS, PROVENANCE, deterministic_columns, record_schema, relabelled


def study(**changes: Any) -> Study:
    sections: dict[str, Any] = {
        "name": "test",
        "data": {"kind": "composites", "n": 1},
        "models": {"name": "a"},
        "formulations": {"name": "ball", "constraint": "l2"},
    }
    return Study(**(sections | changes))


def test_every_column_belongs_to_one_group() -> None:
    schema = record_schema(study(analysis={"metrics": ["localization"]}, out={"arrays": "delta"}))
    groups = [set(LABELS), set(PROVENANCE), set(deterministic_columns(schema))]
    assert set.union(*groups) == set(schema.names)
    assert sum(map(len, groups)) == len(schema.names)
    assert set(CELL_COLUMNS) <= set(schema.names)
    assert {"delta", "array_shape", "box_curves", "key", "identity", "seed"} <= groups[2]


def test_columns_are_there_where_the_study_asks_for_them() -> None:
    plain = set(record_schema(study()).names)
    assert not {"delta", "images", "array_shape", "box_curves"} & plain
    assert set(record_schema(study(out={"arrays": "images"})).names) - plain == {"images", "array_shape"}


def test_a_record_gets_the_names_that_its_cell_has_now() -> None:
    schema = record_schema(study())
    empty = dict.fromkeys(schema.names)
    rows = [
        empty | {"cell": digest, "model": "a", "formulation": "ball", "attack": "", "key": digest, "level": 0.5}
        for digest in ("d0", "d1")
    ]
    renamed = study(models={"name": "a", "alias": "model A"}, formulations={"name": "new name", "constraint": "l2"})
    table = relabelled(pa.Table.from_pylist(rows, schema=schema), {"d0": cells(renamed)[0].names})
    assert table.schema == schema
    assert table.column("formulation").to_pylist() == ["new name", "ball"]
    assert table.column("model").to_pylist() == ["model A", "a"]
    assert table.column("level").to_pylist() == [0.5, 0.5]
