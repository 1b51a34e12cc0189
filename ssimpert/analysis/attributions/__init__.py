"""Class activation maps and other attributions: what a classifier looks at."""

from ssimpert.analysis.attributions.catalog import ATTRIBUTIONS, attribution

__all__ = ["ATTRIBUTIONS", "attribution"]
