"""Which units go together: tasks in the study's order, the same in every run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ssimpert.study.declared import DeclaredCell
from ssimpert.study.key_arrays import KeyArray, is_among, key_texts, unit_keys
from ssimpert.study.tasks import Task


def missing_tasks(
    cells: Sequence[DeclaredCell],
    identities: Sequence[str],
    done: KeyArray,
    *,
    batch_size: int,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Task]:
    """The tasks of all units that are not done, column by column.

    Batches are cut from all items of a column, whatever is done: so a run that goes on has the same batches as a run
    that was never stopped.

    Args:
        cells: of the study.
        identities: of its items.
        done: the keys of the units that need no work, sorted.
        batch_size: the most units of a task.
        shard: (i, n): only the items whose positions leave the rest i when divided by n.
    """
    number, shards = shard
    positions = np.arange(number, len(identities), shards)
    chosen = identities[number::shards]
    for index, cell in enumerate(cells):
        keys = unit_keys(cell.digest, chosen)
        is_missing = ~is_among(keys, done)
        for start in range(0, len(keys), batch_size):
            part = slice(start, start + batch_size)
            missing = is_missing[part]
            if missing.any():
                items = positions[part][missing].tolist()
                yield Task(index, tuple(items), tuple(key_texts(keys[part][missing])))
