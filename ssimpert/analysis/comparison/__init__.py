"""``compare``: the maps of a perturbation against a class activation map, beside controls."""

from ssimpert.analysis.comparison.compare import CAMS, compare
from ssimpert.analysis.comparison.result import AgreementRow, Comparison

__all__ = ["CAMS", "AgreementRow", "Comparison", "compare"]
