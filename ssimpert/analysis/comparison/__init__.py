"""``compare``: the maps of a perturbation against a class activation map, beside controls."""

from ssimpert.analysis.comparison.compare import compare
from ssimpert.analysis.comparison.options import CAMS
from ssimpert.analysis.comparison.result import AgreementRow, Comparison

__all__ = ["CAMS", "AgreementRow", "Comparison", "compare"]
