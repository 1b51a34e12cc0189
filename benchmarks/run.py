"""``make bench``: every table of the README in one run of at most ten minutes on two cores, one thread."""

from __future__ import annotations

import time

from benchmarks import overlap, ratios, scaling, tiles


def main() -> None:
    """Run the benchmarks one after the other; each prints its table and writes its record."""
    began = time.perf_counter()
    for name, part in (("tiles", tiles.main), ("ratios", ratios.main), ("overlap", overlap.main)):
        print(f"\n== {name}", flush=True)
        part()
    print("\n== scaling", flush=True)
    scaling.main()
    print(f"\n{time.perf_counter() - began:.0f} s in all", flush=True)


if __name__ == "__main__":
    main()
