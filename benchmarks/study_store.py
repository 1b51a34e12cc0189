"""What keeping the records of a study costs: appending, status and joining shards.

    python -m benchmarks.study_store             # 100,000 synthetic units, 64 shards
    python -m benchmarks.study_store --units 1000 --shards 4

A record has 20 scores. Records are appended and synced in groups of ten, as they come from ten workers.
"""

from __future__ import annotations

import resource
import shutil
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from benchmarks.script_options import script_parser
from ssimpert.study.declared import DeclaredCell, unit_keys
from ssimpert.study.status import count_units, done_keys
from ssimpert.study.store.merge import merge_shards
from ssimpert.study.store.parts import PartWriter

SCORES = 20
GROUP = 10
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("value", pa.float64()),
        ("scores", pa.list_(pa.struct([("map", pa.string()), ("metric", pa.string()), ("value", pa.float64())]))),
        ("writer", pa.string()),
    ]
)
DETERMINISTIC = ("key", "value", "scores")


def records(keys: list[str]) -> list[dict[str, object]]:
    """A record for each key."""
    scores = [{"map": "rms", "metric": f"metric {number}", "value": number / 7} for number in range(SCORES)]
    return [{"key": key, "value": 1.0, "scores": scores, "writer": "w"} for key in keys]


def append(folder: Path, keys: list[str]) -> float:
    """Seconds to append and sync the records of ``keys``, group by group."""
    began = time.perf_counter()
    with PartWriter(folder, SCHEMA) as writer:
        for start in range(0, len(keys), GROUP):
            writer.append(records(keys[start : start + GROUP]))
    return time.perf_counter() - began


def memory() -> float:
    """The most memory that this process ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    parser = script_parser(__doc__)
    parser.add_argument("--units", type=int, default=100_000, help="units of the study (default 100000)")
    parser.add_argument("--shards", type=int, default=64, help="folders that are joined (default 64)")
    options = parser.parse_args()
    cell = DeclaredCell("0" * 64, {}, {})
    identities = [f"{number:064x}" for number in range(options.units)]
    keys = unit_keys(cell.digest, identities).tolist()
    root = Path(tempfile.mkdtemp())
    try:
        start = memory()
        tenth = append(root / "tenth", keys[: options.units // 10])
        after_a_tenth = memory()
        seconds = append(root / "one", keys)
        first = 1e4 * tenth / options.units
        print(f"append and sync: {1e3 * seconds / options.units:.3f} ms a unit ({first:.3f} for the first tenth)")
        print(f"memory: {start:.0f} MiB, {after_a_tenth:.0f} after a tenth, {memory():.0f} after all")
        began = time.perf_counter()
        counted = count_units([cell], identities, done_keys(root / "one"), {})
        print(f"status: {time.perf_counter() - began:.2f} s, {counted.counts.done} done")
        shards = [root / f"shard-{number}" for number in range(options.shards)]
        for number, shard in enumerate(shards):
            append(shard, keys[number :: options.shards])
        began = time.perf_counter()
        report = merge_shards(root / "all", shards, SCHEMA, DETERMINISTIC)
        print(f"merge of {options.shards} shards: {time.perf_counter() - began:.1f} s, {report.added} records")
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
