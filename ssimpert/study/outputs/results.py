"""``StudyResults``: the records of a study as it is declared, and how much of it they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ssimpert.errors import InputError
from ssimpert.study.declared import DeclaredCell, read_cells
from ssimpert.study.item_index import read_item_index
from ssimpert.study.joining import STUDY_FILE
from ssimpert.study.key_arrays import arrow_keys, is_among, unit_keys
from ssimpert.study.schema import deterministic_columns, record_schema, relabelled
from ssimpert.study.status import Counts, count_units
from ssimpert.study.store.failures import read_failures
from ssimpert.study.store.results import read_records
from ssimpert.study.study_file import read_study

if TYPE_CHECKING:
    import pandas as pd

CELL_COLUMNS = ("model", "formulation", "level", "level_unit", "engine", "attack", "passes", "repeat")


@dataclass(frozen=True, eq=False)
class StudyResults:
    """The records of a study.

    Attributes:
        name: of the study.
        records: a row for each declared unit with a record (:func:`ssimpert.study.schema.record_schema`), in the order
            of the study: column by column, item by item.
        counts: of the declared units.
        notes: lines about what could not be read.
        cells: the columns of the study, with the options that decide their records.
    """

    name: str
    records: pa.Table
    counts: Counts
    notes: tuple[str, ...] = ()
    cells: tuple[DeclaredCell, ...] = ()

    def first_line(self) -> str:
        """How complete the records are; the first word is PARTIAL where some unit has no record."""
        return self.counts.line()


def load_results(folder: str | Path) -> StudyResults:
    """The records of the study in ``folder``, as its last run declared it. Nothing is changed.

    Raises:
        InputError: the folder has no study that was run.
        DuplicateRecordError: the folder has unequal records of one unit.
    """
    folder = Path(folder)
    cells, items = read_cells(folder), read_item_index(folder)
    if cells is None or items is None or not (folder / STUDY_FILE).exists():
        raise InputError(f"{folder} has no study that was run; `ssimpert study run FILE --out {folder}` begins one")
    study = read_study(folder / STUDY_FILE)
    schema = record_schema(study)
    found = read_records(folder, schema, deterministic_columns(schema))
    declared = np.concatenate([unit_keys(cell.digest, items.identities) for cell in cells])
    keys = arrow_keys(found.keys)
    is_there = is_among(declared, keys)
    table = found.table.take(pa.array(np.searchsorted(keys, declared[is_there])))
    counted = count_units(cells, items.identities, keys, read_failures(folder))
    table = relabelled(table, {cell.digest: cell.names for cell in cells})
    return StudyResults(study.name, table, counted.counts, found.notes, cells)


def unit_frame(records: pa.Table) -> pd.DataFrame:
    """The records as a table of pandas, without the nested columns; labels such as the object become columns."""
    nested = [
        field.name for field in records.schema if pa.types.is_nested(field.type) or pa.types.is_binary(field.type)
    ]
    frame = records.drop_columns(nested).to_pandas()
    frame["margin_gain"] = frame["margin_after"] - frame["margin_before"]
    frame["one_minus_ssim"] = 1 - frame["ssim"]
    for name, texts in _labels(records).items():
        if name not in frame.columns:
            frame[name] = texts
    return frame


def _labels(records: pa.Table) -> dict[str, np.ndarray]:
    """A column (records,) for each name among the items' labels; empty text where a record lacks the label."""
    if "labels" not in records.column_names:
        return {}
    labels = records.column("labels").combine_chunks()
    pairs = labels.cast(pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())])))
    row = np.repeat(np.arange(len(labels)), np.asarray(pairs.value_lengths().fill_null(0)))
    flat = pairs.flatten()
    names, values = _texts(flat.field("key")), _texts(flat.field("value"))
    found = {}
    for name in dict.fromkeys(names):
        is_name = names == name
        found[str(name)] = np.full(len(labels), "", dtype=object)
        found[str(name)][row[is_name]] = values[is_name]
    return found


def score_frame(records: pa.Table) -> pd.DataFrame:
    """The scores of all records as a per-image table (:mod:`ssimpert.analysis.statistics.table`).

    A row for each unit, method, map and metric. ``image`` is the item's name, with the name of its data set before it
    where there are several. Further columns say which unit a row is of: model, formulation, level, level_unit, engine,
    attack, passes, repeat, seed, and the item's labels. ``constraint`` is the formulation's name, or the attack's, so
    that a table of several is told apart as one of several sets. ``by`` of :func:`ssimpert.analysis.summarize` takes
    units of several columns apart: ``by=("model", "formulation", "level")``.
    """
    import pandas as pd

    units = unit_frame(records)
    flat = records.column("scores").combine_chunks().flatten()
    row = np.repeat(np.arange(len(units)), score_counts(records))
    columns = {name: flat.field(name) for name in ("method", "map", "metric", "value", "p_value")}
    columns["reason"] = flat.field("reason").fill_null("")
    scores = pa.table(columns).to_pandas()
    datas = units["data"]
    names = units["item"] if datas.nunique() <= 1 else datas + "/" + units["item"]
    units["constraint"] = units["attack"].where(units["attack"] != "", units["formulation"])
    labels = [name for name in units.columns if name not in records.column_names and name not in DERIVED]
    of_units = dict.fromkeys([*CELL_COLUMNS, "constraint", "seed", *labels])
    taken = {name: units[name].array.take(row) for name in of_units if name not in scores.columns}
    table = {"image": names.array.take(row), **{str(name): scores[name] for name in scores.columns}, **taken}
    return pd.DataFrame(table, copy=False)


def score_counts(records: pa.Table) -> np.ndarray:
    """How many scores each record has, (records,)."""
    lengths = records.column("scores").combine_chunks().value_lengths()
    return np.asarray(lengths.fill_null(0).to_numpy(zero_copy_only=False))


def _texts(column: pa.Array) -> np.ndarray:
    """A column of few distinct texts as an array of objects, each text once in memory; missing text is empty."""
    encoded = column.fill_null("").dictionary_encode()
    return np.asarray(encoded.dictionary.to_numpy(zero_copy_only=False))[encoded.indices.to_numpy()]


DERIVED = ("margin_gain", "one_minus_ssim")
"""The columns of :func:`unit_frame` that are computed from a record's columns."""
