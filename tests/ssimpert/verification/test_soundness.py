"""No point of a set lies below a claimed bound: some of the networks of ``make verify-fuzz``."""

from __future__ import annotations

import pytest

from tests.ssimpert.verification.random_networks import ROUNDING, check_network


@pytest.mark.parametrize("seed", [0, 1, 3, 8])
def test_no_sampled_or_attacked_point_lies_below_the_bound(seed: int) -> None:
    assert check_network(seed, "cheap") >= -ROUNDING
