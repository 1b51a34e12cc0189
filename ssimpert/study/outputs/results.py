"""``StudyResults``: the records of a study as it is declared, and how much of it they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ssimpert.errors import InputError
from ssimpert.study.declared import read_cells, unit_keys
from ssimpert.study.item_index import read_item_index
from ssimpert.study.joining import STUDY_FILE
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
    """

    name: str
    records: pa.Table
    counts: Counts
    notes: tuple[str, ...] = ()

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
    keys = found.table.column("key").to_numpy(zero_copy_only=False).astype(declared.dtype)
    order = np.argsort(keys)
    places = np.searchsorted(keys[order], declared)
    is_there = places < len(keys)
    is_there[is_there] = keys[order][places[is_there]] == declared[is_there]
    table = found.table.take(pa.array(order[places[is_there]]))
    counted = count_units(cells, items.identities, keys, read_failures(folder))
    table = relabelled(table, {cell.digest: cell.names for cell in cells})
    return StudyResults(study.name, table, counted.counts, found.notes)


def unit_frame(records: pa.Table) -> pd.DataFrame:
    """The records as a table of pandas, without the nested columns; labels such as the object become columns."""
    import pandas as pd

    nested = [
        field.name for field in records.schema if pa.types.is_nested(field.type) or pa.types.is_binary(field.type)
    ]
    frame = records.drop_columns(nested).to_pandas()
    frame["margin_gain"] = frame["margin_after"] - frame["margin_before"]
    frame["one_minus_ssim"] = 1 - frame["ssim"]
    if "labels" in records.column_names:
        labels = [dict(pairs or ()) for pairs in records.column("labels").to_pylist()]
        for name in dict.fromkeys(name for pairs in labels for name in pairs):
            if name not in frame.columns:
                frame[name] = pd.Series([pairs.get(name, "") for pairs in labels], index=frame.index)
    return frame


def score_frame(records: pa.Table) -> pd.DataFrame:
    """The scores of all records as a per-image table (:mod:`ssimpert.analysis.statistics.table`).

    A row for each unit, method, map and metric. ``image`` is the item's name, with the name of its data set before it
    where there are several. Further columns say which unit a row is of: model, formulation, level, level_unit, engine,
    attack, passes, repeat, seed, and the item's labels. ``by`` of :func:`ssimpert.analysis.summarize` takes units of
    several columns apart: ``by=("model", "formulation", "level")``.
    """
    import pandas as pd

    units = unit_frame(records)
    scores = records.column("scores").combine_chunks()
    lengths = np.diff(scores.offsets.to_numpy())
    flat = scores.flatten()
    row = np.repeat(np.arange(len(units)), lengths)
    columns = {name: flat.field(name).to_pandas() for name in ("method", "map", "metric", "value", "p_value", "reason")}
    datas = units["data"]
    names = units["item"] if datas.nunique() <= 1 else datas + "/" + units["item"]
    table = pd.DataFrame({"image": names.to_numpy()[row], **columns})
    labels = [name for name in units.columns if name not in records.column_names and name not in _DERIVED]
    for name in (*CELL_COLUMNS, "seed", *labels):
        if name not in table.columns:
            table[name] = units[name].to_numpy()[row]
    return table


_DERIVED = ("margin_gain", "one_minus_ssim")
