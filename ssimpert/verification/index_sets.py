"""Sets that hold every image of an SSIM index, and the index that a set holds.

``WindowSSIM(t)`` lies inside ``{SSIM >= t in every window}``: a proof over it says nothing of the images between the
two. Since both terms are at most 1, ``SSIM = S1 S2 >= t`` implies ``S1 >= t`` and ``S2 >= t``. So the convex set
``S1 >= t, S2 >= t`` holds every image of the index. It is a :class:`~solvers.WindowSSIM` too, with
alpha = beta = 1 - t.
"""

from __future__ import annotations

import math

import solvers
from ssimpert.validation import check_share


def outer_index_set(
    threshold: float,
    window: solvers.Window | None = None,
    *,
    sample_covariance: bool = False,
    data_range: float = 1.0,
) -> solvers.WindowSSIM:
    """The convex set ``S1 >= t`` and ``S2 >= t`` in every window, which holds every image with ``SSIM >= t`` there.

    Args:
        threshold: t, strictly between 0 and 1.
        window: the sliding window; default uniform 7x7 at stride 1.
        sample_covariance, data_range: as for :class:`~solvers.WindowSSIM`.

    Raises:
        InputError: the threshold is out of range.
    """
    threshold = check_share("threshold", threshold)
    # Rounded so that both levels are at least 1 - t.
    beta = math.nextafter(1 - threshold, 1.0)
    return solvers.WindowSSIM(
        threshold * (1 - beta) * (1 - 1e-15),
        window or solvers.Window.uniform(),
        luminance=beta,
        sample_covariance=sample_covariance,
        data_range=data_range,
    )


def index_held(constraint: solvers.WindowSSIM) -> float:
    """The smallest t for which every image with ``SSIM >= t`` in every window lies in the set.

    The set asks ``S1 >= 1 - beta`` and ``S2 >= 1 - alpha``, and ``SSIM >= t`` gives ``S1, S2 >= t``.
    """
    return max(1 - constraint.alpha, 1 - constraint.beta)
