"""What is known of a decision over a set."""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """What is known of one image's decision over a set.

    VERIFIED: no image of the set changes the decision. FALSIFIED: an image of the set that changes the decision was
    found. UNKNOWN: neither.
    """

    VERIFIED = "verified"
    FALSIFIED = "falsified"
    UNKNOWN = "unknown"

    @property
    def is_decided(self) -> bool:
        """Whether the question is answered."""
        return self is not Verdict.UNKNOWN
