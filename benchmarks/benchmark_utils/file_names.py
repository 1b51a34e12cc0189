"""Names of data sets that are safe in benchopt's file names."""

from __future__ import annotations


class WithoutDots:
    """A data set in whose name numbers have a ``p`` for the dot: ``threshold=0p95``.

    benchopt names a plot's file after the data set, and cuts the name at the last dot: data sets that differ behind
    this dot would overwrite one another's plots.
    """

    def __repr__(self) -> str:
        return super().__repr__().replace(".", "p")
