"""Proofs about the network itself: no image of a set changes its decision.

Linear bounds are propagated through the network, layer by layer, and minimised over the set by certified solves.
"""

from ssimpert.verification.certified_level import certified_level
from ssimpert.verification.index_sets import outer_index_set
from ssimpert.verification.results import CertifiedLevelResult, VerificationResult
from ssimpert.verification.verdict import Verdict
from ssimpert.verification.verify import verify

__all__ = ["CertifiedLevelResult", "Verdict", "VerificationResult", "certified_level", "outer_index_set", "verify"]
