"""Folders of one study joined into one, with the study that they are of."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from ssimpert.errors import InputError
from ssimpert.study.declared import CELLS, read_cells
from ssimpert.study.item_index import ITEMS, read_item_index
from ssimpert.study.schema import deterministic_columns, record_schema
from ssimpert.study.store.merge import MergeReport, merge_shards
from ssimpert.study.study_file import read_study

STUDY_FILE = "study.toml"
"""The study of a folder, as it was run last."""


def join_studies(target: Path, sources: Sequence[Path], *, wait: bool = False) -> MergeReport:
    """Add the records of ``sources`` to ``target``. The study is the target's, or that of the first source.

    Args:
        target: the folder that gets everything; made where it does not exist.
        sources: the folders of shards, at least one.
        wait: wait for a run that works in the target.

    Raises:
        InputError: a folder has no study, or a source is of another study than the target.
        DuplicateRecordError: two folders have unequal records of one unit.
        LockedError: a run works in the target.
    """
    model = target if (target / STUDY_FILE).exists() else sources[0]
    for folder in (model, *sources):
        if not (folder / STUDY_FILE).exists():
            raise InputError(f"{folder} has no study that was run")
    digests = [cell.digest for cell in read_cells(model) or ()]
    items = read_item_index(model)
    for source in sources:
        other = read_item_index(source)
        if [cell.digest for cell in read_cells(source) or ()] != digests:
            raise InputError(
                f"{source} is of another study than {model}: its columns, their options or the models' weights differ"
            )
        if items is None or other is None or other.identities != items.identities:
            raise InputError(f"{source} is of another study than {model}: its images differ")
    schema = record_schema(read_study(model / STUDY_FILE))
    target.mkdir(parents=True, exist_ok=True)
    if model != target:
        for name in (STUDY_FILE, CELLS, ITEMS):
            shutil.copyfile(model / name, target / name)
    return merge_shards(target, sources, schema, deterministic_columns(schema), wait=wait)
