"""``make bench``: the README's tables in one run, on one thread, in at most ten minutes on two cores.

``python -m benchmarks.run --record`` replaces the committed records, except those of a fuller run.
"""

from __future__ import annotations

import time

from benchmarks import overlap, ratios, scaling, tiles
from benchmarks.script_options import script_parser


def main(*, record: bool = False) -> None:
    """Run the benchmarks one after another. Each prints its table and writes its record.

    Raises:
        SystemExit: at the end, where a committed record was not replaced.
    """
    refusals = []
    began = time.perf_counter()
    for name, part in (
        ("tiles", tiles.main),
        ("ratios", ratios.main),
        ("overlap", overlap.main),
        ("scaling", scaling.main),
    ):
        print(f"\n== {name}", flush=True)
        try:
            part(record=record)
        except SystemExit as refusal:
            refusals.append(str(refusal))
    print(f"\n{time.perf_counter() - began:.0f} s in all", flush=True)
    if refusals:
        raise SystemExit("\n".join(refusals))


if __name__ == "__main__":
    main(record=script_parser(__doc__, records=True).parse_args().record)
