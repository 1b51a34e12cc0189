"""Benchmarks: ratios within one run, medians, pinned threads. `make bench` runs those of the README's tables.

Found here: a script for each table or plot of the documentation, its record in ``results``, the real problems that all
of them pose (``real_problems``), micro-benchmarks of the kernels (``micro``), data sets and methods for benchopt
(``datasets``, ``solvers``, ``objective``), and the comparison of results bit by bit (``result_hashes``).
"""
