"""Sliding windows: where they lie, their weights, and the linear operators that they define.

Notation: weights ``w_k >= 0`` with sum 1 in a window ``p``; ``m_p(v) = sum w_k v_k``;
``V_p(v) = sum w_k (v_k - m_p)^2``; ``A_p v = sqrt(w) * v`` on the window, so that ``|R_p v|^2 = V_p(v)`` with
``R_p v = sqrt(w) * (v - m_p(v))``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from solvers.backends.eligibility import plain
from solvers.errors import ProblemError
from solvers.windows.choose_backend import compiled_products
from solvers.windows.lattice import BlockedBand, banded, covering, windowed_roots

Border = Literal["full", "valid"]
# Side from which on torch's products go block by block: a dense matrix costs pixels times side.
LARGEST_DENSE = 320


@dataclass(frozen=True)
class Window:
    """A square sliding window, separable, applied to each channel by itself.

    Attributes:
        size: side in pixels, at least 2.
        stride: step between neighbouring windows, 1 <= stride <= size. ``stride == size`` gives tiles.
        border: ``"full"`` (default): windows also hang over the edges, cut there and their weights renormalised
            to sum 1, so that no pixel escapes. ``"valid"``: whole windows only, the standard SSIM index; edge
            pixels then lie in few windows, and a pixel that lies in none keeps its value.
        sigma: standard deviation of Gaussian weights in pixels; ``None`` for uniform weights.
    """

    size: int
    stride: int = 1
    border: Border = "full"
    sigma: float | None = None

    def __post_init__(self) -> None:
        for name in ("size", "stride"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise ProblemError(f"window {name} must be an integer, got {value!r}")
        if self.size < 2:
            raise ProblemError(f"window size must be at least 2, got {self.size}")
        if not 1 <= self.stride <= self.size:
            raise ProblemError(f"window stride must be between 1 and the size {self.size}, got {self.stride}")
        if self.border not in ("full", "valid"):
            raise ProblemError(f"window border must be 'full' or 'valid', got {self.border!r}")
        if self.sigma is not None and not (math.isfinite(self.sigma) and self.sigma > 0):
            raise ProblemError(f"window sigma must be positive and finite, got {self.sigma!r}")
        if self.sigma is not None and ((self.size - 1) / 2 / self.sigma) ** 2 > 400:
            # The corner's weight would be under 1e-170 of the centre's, and a cut window's could vanish.
            raise ProblemError(f"window sigma {self.sigma} is too small for a window of {self.size} pixels a side")

    @classmethod
    def uniform(cls, size: int = 7, *, stride: int = 1, border: Border = "full") -> Window:
        """Equal weights over ``size x size`` pixels."""
        return cls(size=size, stride=stride, border=border)

    @classmethod
    def gaussian(cls, sigma: float = 1.5, size: int = 11, *, stride: int = 1, border: Border = "full") -> Window:
        """Gaussian weights, ``size`` taps a side; the defaults are those of Wang et al. (TIP 2004)."""
        return cls(size=size, stride=stride, border=border, sigma=sigma)

    @property
    def is_tiling(self) -> bool:
        """Whether windows do not overlap (stride equal to size)."""
        return self.stride == self.size

    def taps(self) -> Tensor:
        """The 1-D weights of a whole window: float64, shape (size,), sum 1. A window's weights are their outer
        product."""
        if self.sigma is None:
            return torch.full((self.size,), 1.0 / self.size, dtype=torch.float64)
        offset = torch.arange(self.size, dtype=torch.float64) - (self.size - 1) / 2
        weights = torch.exp(-0.5 * (offset / self.sigma) ** 2)
        return weights / weights.sum()

    def starts(self, length: int) -> list[int]:
        """Left edges of the windows along an axis of ``length`` pixels.

        ``"full"``: from ``-((size - stride)//2)`` in steps of the stride, ``ceil(length/stride)`` of them, so that
        windows hang over both ends alike. ``"valid"``: from 0 while the whole window fits.
        """
        if self.border == "valid":
            return list(range(0, length - self.size + 1, self.stride))
        first = -((self.size - self.stride) // 2)
        return [first + self.stride * k for k in range(math.ceil(length / self.stride))]

    def check_fits(self, height: int, width: int) -> None:
        """Raise :class:`ProblemError` where the image is smaller than the window."""
        if self.size > min(height, width):
            raise ProblemError(
                f"window of {self.size}x{self.size} pixels is larger than the image of {height}x{width}; "
                f"the largest window that fits is {min(height, width)}"
            )

    def operator(self, height: int, width: int, *, dtype: torch.dtype, device: torch.device) -> WindowOperator:
        """The window operator for images of ``height x width``; built once for each (size, dtype, device)."""
        return _operator(self, height, width, dtype, torch.device(device))

    def operator_for(self, image: Tensor) -> WindowOperator:
        """The window operator for ``image`` (..., H, W), in its dtype and on its device."""
        return self.operator(image.shape[-2], image.shape[-1], dtype=image.dtype, device=image.device)


class WindowOperator:
    """Windowed means and their exact adjoint for one image size, dtype and device.

    All methods take any leading batch: images (..., H, W), window values (..., P_h, P_w), window vectors
    (..., P_h, P_w, size*size). Weights are built once, in the constructor.

    Attributes:
        shape: (P_h, P_w), the lattice of windows.
        pixels: (P_h, P_w), the number N of pixels inside each window (less than size^2 where it is cut).
        coverage: (H, W), the sum over windows of the weight on each pixel: the diagonal of A'A.
        covered: (H, W) bool, whether a pixel lies in any window.
    """

    def __init__(self, window: Window, height: int, width: int, *, dtype: torch.dtype, device: torch.device) -> None:
        window.check_fits(height, width)
        self.window = window
        self.height, self.width = height, width
        self.row_starts, self.column_starts = window.starts(height), window.starts(width)
        self.shape = (len(self.row_starts), len(self.column_starts))
        rows, row_count = banded(window, self.row_starts, height)
        columns, column_count = banded(window, self.column_starts, width)
        self.rows = rows.to(dtype=dtype, device=device)  # (P_h, H)
        self.columns_t = columns.t().contiguous().to(dtype=dtype, device=device)  # (W, P_w)
        self.rows_t = self.rows.t().contiguous()
        self.columns = self.columns_t.t().contiguous()
        self.pixels = torch.outer(row_count, column_count).to(dtype=dtype, device=device)
        self.coverage = torch.outer(rows.sum(dim=0), columns.sum(dim=0)).to(dtype=dtype, device=device)
        self.covered = self.coverage > 0
        # For window vectors: the square roots of the weights, (P_h, size) and (P_w, size), and the padding.
        self._root_rows = windowed_roots(window, rows, self.row_starts).to(dtype=dtype, device=device)
        self._root_columns = windowed_roots(window, columns, self.column_starts).to(dtype=dtype, device=device)

    # -- means ---------------------------------------------------------------------------------------------

    def mean(self, image: Tensor) -> Tensor:
        """``m_p(v)`` for every window: (..., H, W) -> (..., P_h, P_w)."""
        kernels = self._kernels(image)
        if kernels is not None:
            means: Tensor = kernels.mean_planes(_planes(image), self)
            return means.reshape(*image.shape[:-2], *self.shape)
        if self._long:
            across = self._column_blocks.mean(image.mT).mT
            return self._row_blocks.mean(across)
        return self.rows @ (image @ self.columns_t)

    def adjoint(self, values: Tensor) -> Tensor:
        """The exact adjoint of :meth:`mean`, ``sum_p w_pi q_p``: (..., P_h, P_w) -> (..., H, W)."""
        kernels = self._kernels(values)
        if kernels is not None:
            sums: Tensor = kernels.adjoint_planes(_planes(values), self)
            return sums.reshape(*values.shape[:-2], self.height, self.width)
        if self._long:
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
        """``diagonal * v + M'(weights * M v)`` in one pass, for conjugate gradients: image and diagonal (..., H, W),
        weights (..., P_h, P_w), all with the same leading shape -> (..., H, W), into ``out`` where given, which must
        share no memory with the others."""
        kernels = self._kernels(image, diagonal, weights)
        if kernels is not None:
            planes = _planes(image), _planes(diagonal), _planes(weights)
            if out is not None and out.is_contiguous() and plain(image, out):
                kernels.normal_planes(*planes, self, _planes(out))
                return out
            result: Tensor = kernels.normal_planes(*planes, self)[0].reshape(image.shape)
        else:
            result = torch.addcmul(self.adjoint(weights * self.mean(image)), diagonal, image)
        return result if out is None else out.copy_(result)

    def ascend(
        self,
        slope: Tensor,
        weights: Tensor,
        right: Tensor,
        diagonal: Tensor,
        start: Tensor,
        lower: Tensor,
        upper: Tensor,
        steps: Tensor,
        most: int,
    ) -> Tensor | None:
        """Compiled conjugate gradients for :meth:`normal` over a box
        (:mod:`solvers.windows.conjugate_gradients_numba`): images (..., H, W), weights (..., P_h, P_w), steps (...)
        long, at most ``most`` -> (..., H, W). ``None`` where the compiled products don't serve."""
        images = slope, right, diagonal, start, lower, upper
        kernels = self._kernels(weights, *images)
        if kernels is None:
            return None
        planes = [_planes(image) for image in images]
        counts = steps.reshape(-1).contiguous()
        moved: Tensor = kernels.ascend_planes(self, planes[0], _planes(weights), *planes[1:], steps=counts, most=most)
        return moved.reshape(start.shape)

    def _kernels(self, *values: Tensor) -> ModuleType | None:
        """The compiled products that serve, on ordinary tensors without a gradient; ``None`` where torch's do."""
        if values[0].dtype != self.rows.dtype or not plain(*values, self.rows):
            return None
        return compiled_products(self.rows.device, self.height * self.width)

    @property
    def _long(self) -> bool:
        return max(self.height, self.width) > LARGEST_DENSE

    @cached_property
    def _row_blocks(self) -> BlockedBand:
        return BlockedBand(self.rows, self.row_starts, self.window)

    @cached_property
    def _column_blocks(self) -> BlockedBand:
        return BlockedBand(self.columns, self.column_starts, self.window)

    @cached_property
    def row_taps(self) -> Tensor:
        """Weights along the rows by position in the window, 0 outside the image: (size, P_h)."""
        return self._root_rows.square().t().contiguous()

    @cached_property
    def column_taps(self) -> Tensor:
        """Weights along the columns by position in the window, 0 outside the image: (size, P_w)."""
        return self._root_columns.square().t().contiguous()

    @cached_property
    def _squared_rows_t(self) -> Tensor:
        return self.rows_t.square()

    @cached_property
    def _squared_columns(self) -> Tensor:
        return self.columns.square()

    def variance(self, image: Tensor) -> Tensor:
        """``V_p(v)``, never negative: (..., H, W) -> (..., P_h, P_w)."""
        mean = self.mean(image)
        # Not fused: in a window of one pixel both squares round alike, and the difference is exactly 0.
        return (self.mean(image.square()) - mean.square()).clamp_min_(0)

    def covariance(self, first: Tensor, second: Tensor) -> Tensor:
        """``sum_k w_k (u_k - m_p(u))(v_k - m_p(v))``: two (..., H, W) -> (..., P_h, P_w)."""
        return self.mean(first * second) - self.mean(first) * self.mean(second)

    # -- window vectors ------------------------------------------------------------------------------------

    @cached_property
    def root_weights(self) -> Tensor:
        """``sqrt(w)`` of every window, zero outside the image: (P_h, P_w, size*size)."""
        roots = self._root_rows[:, None, :, None] * self._root_columns[None, :, None, :]
        return roots.reshape(*self.shape, self.window.size**2)

    def vectors(self, image: Tensor) -> Tensor:
        """``A_p v = sqrt(w) * v`` for every window: (..., H, W) -> (..., P_h, P_w, size*size). Memory: image x
        size^2 / stride^2."""
        size, stride = self.window.size, self.window.stride
        padded = torch.nn.functional.pad(image, self._padding())
        patches = padded.unfold(-2, size, stride).unfold(-2, size, stride)
        patches = patches[..., : self.shape[0], : self.shape[1], :, :]
        weighted = patches * self._root_rows[:, None, :, None] * self._root_columns[None, :, None, :]
        return weighted.reshape(*image.shape[:-2], *self.shape, size * size)

    def fold(self, vectors: Tensor) -> Tensor:
        """The exact adjoint of :meth:`vectors`, ``sum_p A_p' y_p``: (..., P_h, P_w, size*size) -> (..., H, W)."""
        size, stride = self.window.size, self.window.stride
        lead = vectors.shape[:-3]
        weighted = vectors.reshape(-1, *self.shape, size, size) * self._root_rows[:, None, :, None]
        weighted = weighted * self._root_columns[None, :, None, :]
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
        """For each pixel the smallest value of the windows over it: (..., P_h, P_w) -> (..., H, W); +inf where
        no window lies."""
        if self.rows.is_cpu and self._kernels(values) is not None:
            from solvers.window_extremes import spread_min_planes

            spread = spread_min_planes(_planes(values), self)
            return spread.reshape(*values.shape[:-2], self.height, self.width)
        by_column = values[..., self._column_windows].amin(dim=-1)  # (..., P_h, W)
        by_pixel = by_column[..., self._row_windows, :].amin(dim=-2)  # (..., H, W)
        return torch.where(self.covered, by_pixel, by_pixel.new_full((), float("inf")))

    @cached_property
    def _row_windows(self) -> Tensor:
        """Per pixel row the windows over it, for gathering: (H, most), padded by repetition."""
        return covering(self.window, self.row_starts, self.height).to(self.rows.device)

    @cached_property
    def _column_windows(self) -> Tensor:
        return covering(self.window, self.column_starts, self.width).to(self.rows.device)

    def _padding(self) -> tuple[int, int, int, int]:
        size, stride = self.window.size, self.window.stride
        top, left = -self.row_starts[0], -self.column_starts[0]
        bottom = stride * (self.shape[0] - 1) + size - top - self.height
        right = stride * (self.shape[1] - 1) + size - left - self.width
        return left, max(right, 0), top, max(bottom, 0)


def _planes(values: Tensor) -> Tensor:
    """Contiguous (N, H, W) without its history."""
    plain_values = values.detach() if values.requires_grad else values
    return plain_values.reshape(-1, *values.shape[-2:]).contiguous()


@lru_cache(maxsize=64)
def _operator(window: Window, height: int, width: int, dtype: torch.dtype, device: torch.device) -> WindowOperator:
    # The operator outlives the caller: built under inference_mode its tensors would refuse every later backward.
    with torch.inference_mode(False):
        return WindowOperator(window, height, width, dtype=dtype, device=device)
