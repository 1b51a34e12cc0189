"""``make bench``: the README's tables in one run, on one thread, in at most ten minutes on two cores."""

from __future__ import annotations

import time

from benchmarks import overlap, ratios, scaling, tiles


def main() -> None:
    """Run the benchmarks one after another. Each prints its table and writes its record."""
    began = time.perf_counter()
    for name, part in (("tiles", tiles.main), ("ratios", ratios.main), ("overlap", overlap.main)):
        print(f"\n== {name}", flush=True)
        part()
    print("\n== scaling", flush=True)
    scaling.main()
    print(f"\n{time.perf_counter() - began:.0f} s in all", flush=True)


if __name__ == "__main__":
    main()
