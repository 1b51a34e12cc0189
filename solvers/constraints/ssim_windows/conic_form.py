"""The conic form of windowed SSIM: one vectorised second-order cone over all windows of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from solvers.constraints.base import ConicForm

if TYPE_CHECKING:
    import cvxpy as cp

    from solvers.constraints.ssim_windows.moments import WindowBalls
    from solvers.windows import WindowOperator


def window_cones(
    op: WindowOperator, reference: Tensor, balls: WindowBalls, delta: cp.Variable, image: int
) -> ConicForm:
    """Ball and interval of every window of one image, as CVXPY constraints.

    The windows' means are variables too, ``u = M d``. The cone is ``|A_p d - sqrt(w) u_p - a R_p x| <= r_p``. A row of
    this form has two non-zeros; with R_p written out it would have size^2.

    Args:
        op: the window operator.
        reference: the images x, (B, C, H, W).
        balls: the windows' balls and intervals.
        delta: the flattened variable d, (C*H*W,).
        image: which image of the batch.
    """
    import cvxpy as cp

    channels, lattice = reference.shape[1], balls.radius.shape[1:]
    selection, means = window_matrices(op, channels)
    roots = op.root_weights.double().cpu().reshape(-1, op.window.size**2).repeat(channels, 1).numpy()
    windows, entries = roots.shape
    mean_column = scipy.sparse.csr_array(
        (roots.ravel(), np.repeat(np.arange(windows), entries), np.arange(windows * entries + 1)),
        shape=(windows * entries, windows),
    )
    x = reference[image].double().cpu().flatten().numpy()
    center = balls.ball_center * (selection @ x - mean_column @ (means @ x))

    mean = cp.Variable(windows)
    vectors = cp.reshape(selection @ delta - mean_column @ mean - center, (windows, entries), order="C")
    radius = balls.radius[image].double().cpu().flatten().numpy()
    cone = cp.SOC(radius, vectors, axis=1)
    mean_definition = mean == means @ delta
    if balls.keeps_means:
        interval = [mean == 0]
    else:
        low, high = (v[image].double().cpu().flatten().numpy() for v in (balls.mean_lower, balls.mean_upper))
        interval = [mean <= high, mean >= low]
    outside = (~op.covered).flatten().cpu().repeat(channels).nonzero().flatten().numpy()
    fixed = [delta[outside] == 0] if outside.size else []

    def dual() -> Tensor:
        block = -np.asarray(cone.dual_value[1]).reshape(windows, entries)
        block = block - (block * roots).sum(axis=1, keepdims=True) * roots
        if len(interval) == 1:
            slope = np.asarray(interval[0].dual_value)
        else:
            slope = np.asarray(interval[0].dual_value) - np.asarray(interval[1].dual_value)
        return torch.as_tensor(block + slope[:, None] * roots).reshape(1, *lattice, entries)

    return ConicForm([cone, mean_definition, *interval, *fixed], dual)


def window_matrices(op: WindowOperator, channels: int) -> tuple[scipy.sparse.csr_array, scipy.sparse.csr_array]:
    """A (windows*size^2, C*H*W) and M (windows, C*H*W), of all channels, as sparse matrices in float64.

    A maps an image to the vectors ``sqrt(w) d`` of its windows, and M maps an image to the means of its windows.
    """
    pixels, size = op.height * op.width, op.window.size
    rows = np.asarray(op.row_starts)[:, None] + np.arange(size)
    columns = np.asarray(op.column_starts)[:, None] + np.arange(size)
    row, column = rows[:, None, :, None], columns[None, :, None, :]
    inside = (row >= 0) & (row < op.height) & (column >= 0) & (column < op.width)
    target = np.where(inside, row * op.width + column, 0).reshape(-1)
    root = op.root_weights.double().cpu().numpy().reshape(-1)
    entries = np.arange(target.size)
    selection = scipy.sparse.csr_array((root, (entries, target)), shape=(target.size, pixels))
    selection.eliminate_zeros()
    window = entries // size**2
    means = scipy.sparse.csr_array((root**2, (window, target)), shape=(op.shape[0] * op.shape[1], pixels))
    means.eliminate_zeros()
    return (
        scipy.sparse.csr_array(scipy.sparse.block_diag([selection] * channels, format="csr")),
        scipy.sparse.csr_array(scipy.sparse.block_diag([means] * channels, format="csr")),
    )
