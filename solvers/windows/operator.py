"""The linear operators of a lattice of windows: windowed means, their adjoint, moments, window vectors, and minima.

Every product is computed by compiled code where that may read the tensors, and by torch's matrix products elsewhere,
for instance under autograd.

Notation: weights ``w_k >= 0`` with sum 1 in a window ``p``; ``m_p(v) = sum w_k v_k``;
``V_p(v) = sum w_k (v_k - m_p)^2``; ``A_p v = sqrt(w) * v`` on the window, so that ``|R_p v|^2 = V_p(v)`` with
``R_p v = sqrt(w) * (v - m_p(v))``.
"""

from __future__ import annotations

from functools import cached_property
from types import ModuleType

import torch
from torch import Tensor

from solvers.backends.eligibility import compiled_code_may_read
from solvers.windows.choose_backend import compiled_products
from solvers.windows.lattice import BlockedBand, Lattice, covering
from solvers.windows.quadratic import Bounds, WindowQuadratic

# The largest side, in pixels, for which torch's products use a dense matrix, whose cost is pixels times side. Larger
# images are multiplied block by block.
MAX_DENSE_SIDE = 320


class WindowOperator(Lattice):
    """Windowed means and their exact adjoint for one image size, dtype and device.

    All methods take any leading batch: images (..., H, W), window values (..., P_h, P_w), window vectors
    (..., P_h, P_w, size*size). The attributes are those of :class:`~solvers.windows.lattice.Lattice`.
    """

    # -- means ---------------------------------------------------------------------------------------------

    def mean(self, image: Tensor) -> Tensor:
        """``m_p(v)`` for every window: (..., H, W) -> (..., P_h, P_w)."""
        kernels = self._kernels(image)
        if kernels is not None:
            means: Tensor = kernels.mean_planes(_planes(image), self)
            return means.reshape(*image.shape[:-2], *self.shape)
        if self._is_large:
            across = self._column_blocks.mean(image.mT).mT
            return self._row_blocks.mean(across)
        return self.rows @ (image @ self.columns_t)

    def adjoint(self, values: Tensor) -> Tensor:
        """The exact adjoint of :meth:`mean`, ``sum_p w_pi q_p``: (..., P_h, P_w) -> (..., H, W)."""
        kernels = self._kernels(values)
        if kernels is not None:
            sums: Tensor = kernels.adjoint_planes(_planes(values), self)
            return sums.reshape(*values.shape[:-2], self.height, self.width)
        if self._is_large:
            across = self._column_blocks.adjoint(values.mT).mT
            return self._row_blocks.adjoint(across)
        return self.rows_t @ (values @ self.columns)

    def squared_adjoint(self, values: Tensor) -> Tensor:
        """``sum_p w_pi^2 q_p``, the diagonal of ``M' diag(q) M``: (..., P_h, P_w) -> (..., H, W)."""
        kernels = None if self.rows.is_cpu else self._kernels(values)
        if kernels is not None:
            sums: Tensor = kernels.adjoint_planes(_planes(values), self, squared=True)
            return sums.reshape(*values.shape[:-2], self.height, self.width)
        return self._squared_rows_t @ (values @ self._squared_columns)

    def normal(self, image: Tensor, diagonal: Tensor, weights: Tensor, out: Tensor | None = None) -> Tensor:
        """The normal product ``diagonal * v + M'(weights * M v)`` in one pass, for conjugate gradients: (..., H, W).

        Args:
            image: v, (..., H, W).
            diagonal: (..., H, W).
            weights: (..., P_h, P_w), with the same leading shape.
            out: where to write the product, (..., H, W), sharing no memory with the others; default: a new tensor.
        """
        kernels = self._kernels(image, diagonal, weights)
        if kernels is not None:
            planes = _planes(image), _planes(diagonal), _planes(weights)
            if out is not None and out.is_contiguous() and compiled_code_may_read(image, out):
                kernels.normal_planes(*planes, self, _planes(out))
                return out
            result: Tensor = kernels.normal_planes(*planes, self)[0].reshape(image.shape)
        else:
            result = torch.addcmul(self.adjoint(weights * self.mean(image)), diagonal, image)
        return result if out is None else out.copy_(result)

    def maximise(
        self, quadratic: WindowQuadratic, start: Tensor, bounds: Bounds, steps: Tensor, max_steps: int
    ) -> Tensor | None:
        """Move ``start`` towards the quadratic's maximum by conjugate gradients in compiled code: (..., H, W).

        The iteration is that of :func:`solvers.methods.conjugate_gradients.maximise_window_quadratic`. ``None`` where
        compiled code does not serve: the caller then iterates in torch.

        Args:
            quadratic: images (..., H, W) and weights (..., P_h, P_w).
            start: (..., H, W), within ``bounds``.
            bounds: (..., H, W) each.
            steps: (...), long, the number of conjugate gradient steps of each plane.
            max_steps: the largest of ``steps``, as a Python number.
        """
        kernels = self._kernels(quadratic.weights, *quadratic.parts(), start, bounds.lower, bounds.upper)
        if kernels is None:
            return None
        counts = steps.reshape(-1).contiguous()
        planes: Tensor = kernels.maximise_planes(
            self, quadratic.map(_planes), _planes(start), bounds.map(_planes), steps=counts, max_steps=max_steps
        )
        return planes.reshape(start.shape)

    def _kernels(self, *values: Tensor) -> ModuleType | None:
        """The module of compiled products, where compiled code may read ``values``; ``None`` for torch's products."""
        if values[0].dtype != self.rows.dtype or not compiled_code_may_read(*values, self.rows):
            return None
        return compiled_products(self.rows.device, self.height * self.width)

    @property
    def _is_large(self) -> bool:
        """Whether torch's products go block by block."""
        return max(self.height, self.width) > MAX_DENSE_SIDE

    @cached_property
    def _row_blocks(self) -> BlockedBand:
        return BlockedBand(self.rows, self.row_starts, self.window)

    @cached_property
    def _column_blocks(self) -> BlockedBand:
        return BlockedBand(self.columns, self.column_starts, self.window)

    @cached_property
    def _squared_rows_t(self) -> Tensor:
        return self.rows_t.square()

    @cached_property
    def _squared_columns(self) -> Tensor:
        return self.columns.square()

    def variance(self, image: Tensor) -> Tensor:
        """``V_p(v)``, never negative, in two passes: (..., H, W) -> (..., P_h, P_w)."""
        return self.covariance(image, image)

    def covariance(self, first: Tensor, second: Tensor) -> Tensor:
        """``sum_k w_k (u_k - m_p(u))(v_k - m_p(v))``: two (..., H, W) -> (..., P_h, P_w).

        Two passes, rows before windows (see :func:`~solvers.windows.covariance_numba.covariance_planes`): no large
        terms cancel, however far the pixels are from 0. It is exactly 0 in a window of one pixel.
        """
        kernels = self._kernels(first, second)
        if kernels is not None:
            planes = _planes(first)
            covariances = kernels.covariance_planes(planes, planes if second is first else _planes(second), self)
            values: Tensor = covariances.reshape(*first.shape[:-2], *self.shape)
        else:
            values = self._covariance(first, second)
        return values if self._one_pixel is None else values.masked_fill(self._one_pixel, 0)

    def _covariance(self, first: Tensor, second: Tensor) -> Tensor:
        """:meth:`covariance` in torch, for what no compiled code may read: windows of columns within each row, then
        windows of rows."""
        left, right, top, bottom = self._padding()

        def parts(values: Tensor, before: int, after: int, taps: Tensor) -> tuple[Tensor, Tensor]:
            """Each window's entries along the last axis, (..., windows, size), and their means, (..., windows, 1)."""
            padded = torch.nn.functional.pad(values, (before, after))
            entries = padded.unfold(-1, self.window.size, self.window.stride)[..., : len(taps), :]
            return entries, (entries * taps).sum(dim=-1, keepdim=True)

        row_taps, column_taps = self.row_taps.t(), self.column_taps.t()
        pairs = [parts(values, left, right, column_taps) for values in (first, second)]
        (u, mean_u), (v, mean_v) = pairs
        within = (column_taps * (u - mean_u) * (v - mean_v)).sum(dim=-1).mT  # (..., P_w, H)
        within, _ = parts(within, top, bottom, row_taps)
        pairs = [parts(mean[..., 0].mT, top, bottom, row_taps) for mean in (mean_u, mean_v)]
        (u, mean_u), (v, mean_v) = pairs
        return (row_taps * (within + (u - mean_u) * (v - mean_v))).sum(dim=-1).mT

    @cached_property
    def _one_pixel(self) -> Tensor | None:
        """Which windows have one pixel alone, (P_h, P_w) bool; ``None`` where no window has."""
        one_pixel = self.pixels == 1
        return one_pixel if bool(one_pixel.any()) else None

    @property
    def relative_error(self) -> float:
        """eta: a bound on rounding, relative to the sum of the magnitudes, of :meth:`mean` and :meth:`adjoint`.

        A product is two sums of at most ``size`` terms, with weights that are themselves rounded to about ``size``
        units. :meth:`covariance` is that of the windows' deviations from their means, each wrong by at most
        ``4 eta`` of the largest pixel (as a vector under the weights' square roots) and by ``4 eta`` of itself.
        """
        return (4 * self.window.size + 32) * torch.finfo(self.rows.dtype).eps / 2

    # -- window vectors ------------------------------------------------------------------------------------

    @cached_property
    def root_weights(self) -> Tensor:
        """``sqrt(w)`` of every window, zero outside the image: (P_h, P_w, size*size)."""
        roots = self.root_rows[:, None, :, None] * self.root_columns[None, :, None, :]
        return roots.reshape(*self.shape, self.window.size**2)

    def vectors(self, image: Tensor) -> Tensor:
        """``A_p v = sqrt(w) * v`` for every window: (..., H, W) -> (..., P_h, P_w, size*size). The memory is that of
        the image times size^2 / stride^2."""
        size, stride = self.window.size, self.window.stride
        padded = torch.nn.functional.pad(image, self._padding())
        patches = padded.unfold(-2, size, stride).unfold(-2, size, stride)
        patches = patches[..., : self.shape[0], : self.shape[1], :, :]
        weighted = patches * self.root_rows[:, None, :, None] * self.root_columns[None, :, None, :]
        return weighted.reshape(*image.shape[:-2], *self.shape, size * size)

    def fold(self, vectors: Tensor) -> Tensor:
        """The exact adjoint of :meth:`vectors`, ``sum_p A_p' y_p``: (..., P_h, P_w, size*size) -> (..., H, W)."""
        size, stride = self.window.size, self.window.stride
        lead = vectors.shape[:-3]
        weighted = vectors.reshape(-1, *self.shape, size, size) * self.root_rows[:, None, :, None]
        weighted = weighted * self.root_columns[None, :, None, :]
        columns = weighted.permute(0, 3, 4, 1, 2).reshape(-1, size * size, self.shape[0] * self.shape[1])
        padded_size = (stride * (self.shape[0] - 1) + size, stride * (self.shape[1] - 1) + size)
        padded = torch.nn.functional.fold(columns, padded_size, kernel_size=size, stride=stride)[:, 0]
        top, left = -self.row_starts[0], -self.column_starts[0]
        image = vectors.new_zeros(padded.shape[0], self.height, self.width)
        inner = padded[:, top : top + self.height, left : left + self.width]
        image[:, : inner.shape[1], : inner.shape[2]] = inner
        return image.reshape(*lead, self.height, self.width)

    # -- extremes ------------------------------------------------------------------------------------------

    def spread_min(self, values: Tensor) -> Tensor:
        """For each pixel the smallest value of the windows over it: (..., P_h, P_w) -> (..., H, W); +inf for a pixel
        in no window."""
        if self.rows.is_cpu and self._kernels(values) is not None:
            from solvers.windows.kernels_numba import spread_min_planes

            spread = spread_min_planes(_planes(values), self)
            return spread.reshape(*values.shape[:-2], self.height, self.width)
        by_column = values[..., self._column_windows].amin(dim=-1)  # (..., P_h, W)
        by_pixel = by_column[..., self._row_windows, :].amin(dim=-2)  # (..., H, W)
        return torch.where(self.covered, by_pixel, by_pixel.new_full((), float("inf")))

    @cached_property
    def _row_windows(self) -> Tensor:
        """For each pixel row the window rows over it, as :func:`covering` lists them."""
        return covering(self.window, self.row_starts, self.height).to(self.rows.device)

    @cached_property
    def _column_windows(self) -> Tensor:
        """For each pixel column the window columns over it, as :func:`covering` lists them."""
        return covering(self.window, self.column_starts, self.width).to(self.rows.device)

    def _padding(self) -> tuple[int, int, int, int]:
        """By how many pixels the windows hang over the image: left, right, top, bottom, as ``torch`` pads."""
        size, stride = self.window.size, self.window.stride
        top, left = -self.row_starts[0], -self.column_starts[0]
        bottom = stride * (self.shape[0] - 1) + size - top - self.height
        right = stride * (self.shape[1] - 1) + size - left - self.width
        return left, max(right, 0), top, max(bottom, 0)


def _planes(values: Tensor) -> Tensor:
    """``values`` (..., H, W) as contiguous planes (N, H, W), detached from autograd."""
    plain_values = values.detach() if values.requires_grad else values
    return plain_values.reshape(-1, *values.shape[-2:]).contiguous()
