"""Benchmarks: ratios within one run, medians, pinned threads. Run with `make bench`."""
