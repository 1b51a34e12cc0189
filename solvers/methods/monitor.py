"""Where an iterative method meets :class:`~solvers.Settings`: certificates, clock, limits, callback, history.

::

    monitor = Monitor(problem, settings)
    ...                                           # whatever is computed once
    monitor.setup_done()
    while monitor.running.any():
        ...                                       # iterate on the images that still run
        if monitor.due(iteration):
            monitor.check(iteration, delta, dual, images)
    return monitor.output()

For each image the best feasible point and the best dual are kept *separately*: any point and any dual make a valid
certificate together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import fields
from operator import itemgetter

import torch
from torch import Tensor

from solvers.certificate import Certificate, Certifier
from solvers.constraints.base import DualBlock
from solvers.constraints.dual_blocks import finite_images, map_dual_block
from solvers.constraints.ssim_windows.window_dual import WindowDual, window_vectors
from solvers.constraints.window_ssim import BoundWindowSSIM
from solvers.problem import LinearProblem, Problem
from solvers.result import History, HistoryRow, MethodOutput, Status
from solvers.settings import Progress, Settings

# The final certificate is computed afresh from the best point; it may differ by rounding.
ROUNDING = 1e-9


class Monitor:
    """The best that is certified so far, per image, and who still runs.

    Attributes:
        certifier: of the whole batch, float64.
        running: (B,) bool, on the problem's device: images without a status.
        delta: (B, C, H, W) float64, the best feasible point; at first 0.
        dual: the best block per constraint, in the method's dtype; None before the first.
        objective, bound, rel_gap: (B,) float64, of these; at first those of 0 and of no dual.
        status: per image; None while it runs.
        last: the certificate of the iterate given last, for the images that it was given for.
    """

    def __init__(self, problem: Problem, settings: Settings) -> None:
        self.started = time.perf_counter()
        self.settings = settings
        self.certifier = Certifier(problem)
        self.problem = self.certifier.problem
        device = problem.reference.device
        self.delta = torch.zeros_like(self.problem.reference)
        self.dual: list[DualBlock | None] = [None] * len(problem.constraints)
        self.objective = self.problem.objective(self.delta)
        self.bound = self.certifier.trivial.clone()
        self.rel_gap = self.certifier.relative_gap(self.objective, self.bound)
        self.running = torch.ones(problem.batch, dtype=torch.bool, device=device)
        self.status: list[Status | None] = [None] * problem.batch
        self.iterations = [0] * problem.batch
        self.messages = [""] * problem.batch
        self.last: Certificate | None = None
        self._rows: list[HistoryRow] = []
        self._setup_time = 0.0
        self._parts = {tuple(range(problem.batch)): self.certifier}

    # -- the clock -----------------------------------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """Seconds since the method started."""
        return time.perf_counter() - self.started

    def setup_done(self) -> None:
        """Note the time at which the iterations begin."""
        self._setup_time = self.elapsed

    def out_of_time(self) -> bool:
        """Whether the time limit is over; cheap, for inner loops. The next check then ends the run."""
        return self.elapsed >= self.settings.time_limit

    def due(self, iteration: int) -> bool:
        """Whether a check is due after ``iteration`` iterations."""
        settings = self.settings
        return iteration % settings.check_interval == 0 or iteration >= settings.max_iter or self.out_of_time()

    # -- checks ----------------------------------------------------------------------------------------------

    def check(
        self,
        iteration: int,
        delta: Tensor,
        dual: Sequence[DualBlock | None],
        images: Tensor | None = None,
        together: int | None = None,
    ) -> bool:
        """Certify an iterate in float64, keep what is better, and decide who is done.

        Args:
            iteration: iterations so far; 0 for a start.
            delta: (K, C, H, W), not necessarily feasible; any float dtype.
            dual: one block per constraint, or None.
            images: long (K,), the images that delta and dual are of; default: all. Others keep what they have.
            together: certify so many of them at a time (what fits a CPU's cache); default: all at once.

        Returns:
            Whether any image still runs.
        """
        if images is None:
            images = torch.arange(len(self.status), device=self.running.device)
        certificate = self._certify(images, delta, dual, together or len(images))
        self.last = certificate
        self._keep(images, certificate, dual)
        finite = delta.isfinite().flatten(1).all(dim=1)
        for block in dual:
            if block is not None:
                finite &= finite_images(block)
        checked = torch.zeros_like(self.running).index_fill_(0, images, True)
        for image in (checked & self.running).nonzero()[:, 0].tolist():
            self.iterations[image] = iteration
        self._finish(self._closes(), Status.OPTIMAL)
        self._finish(checked & ~_wide(finite, images, self.running), Status.NUMERICAL_ERROR, "iterate is not finite")
        seconds = self._note(iteration)
        if self._calls_off(iteration, seconds):
            self._finish(self.running, Status.STOPPED)
        if iteration >= self.settings.max_iter:
            self._finish(self.running, Status.MAX_ITER)
        if self.out_of_time():
            self._finish(self.running, Status.TIME_LIMIT)
        return any(status is None for status in self.status)

    def output(self) -> MethodOutput:
        """What the method returns: the best points and duals. An image that still runs ended by iterations."""
        return MethodOutput(
            delta=self.delta,
            dual=tuple(self.dual),
            status=tuple(status or Status.MAX_ITER for status in self.status),
            iterations=tuple(self.iterations),
            history=History(self._rows),
            setup_time=self._setup_time,
            messages=tuple(self.messages),
        )

    def _certify(self, images: Tensor, delta: Tensor, dual: Sequence[DualBlock | None], together: int) -> Certificate:
        groups = images.split(together)
        # Kept while the same images run: binding the sets costs as much as a certificate.
        keys = [tuple(group.tolist()) for group in groups]
        self._parts = {
            key: self._parts.get(key) or self._certifier(group) for key, group in zip(keys, groups, strict=True)
        }
        parts = []
        for k, key in enumerate(keys):
            own = slice(k * together, (k + 1) * together)
            blocks = [block if block is None else map_dual_block(itemgetter(own), block) for block in dual]
            parts.append(self._parts[key].certify(delta[own], blocks))
        columns = ([getattr(part, field.name) for part in parts] for field in fields(Certificate))
        return parts[0] if len(parts) == 1 else Certificate(*(torch.cat(column) for column in columns))

    def _certifier(self, images: Tensor) -> Certifier:
        return self.certifier if len(images) == len(self.status) else self.certifier.select(images)

    def _keep(self, images: Tensor, certificate: Certificate, dual: Sequence[DualBlock | None]) -> None:
        sign = 1.0 if isinstance(self.problem, LinearProblem) else -1.0
        better = sign * certificate.objective > sign * self.objective[images]
        self.delta[images[better]] = certificate.delta[better]
        self.objective[images[better]] = certificate.objective[better]
        tighter = sign * certificate.bound < sign * self.bound[images]
        self.bound[images[tighter]] = certificate.bound[tighter]
        self.rel_gap = self.certifier.relative_gap(self.objective, self.bound)
        target = images[tighter]
        for number, block in enumerate(dual):
            best = self.dual[number]
            if block is None and best is None:
                continue
            if block is not None and best is not None and type(block) is not type(best):
                block, best = self._vectors(number, block, images), self._vectors(number, best, None)
            if best is None:
                best = map_dual_block(lambda part: part.new_zeros(len(self.status), *part.shape[1:]), block)
            self.dual[number] = best
            if block is None:
                map_dual_block(lambda part: part.index_fill_(0, target, 0), best)
            else:
                map_dual_block(lambda part, new: part.index_copy_(0, target, new[tighter].to(part)), best, block)

    def _vectors(self, number: int, block: DualBlock, images: Tensor | None) -> Tensor:
        """Window vectors in place of a :class:`WindowDual`: only they hold blocks of either form."""
        if not isinstance(block, WindowDual):
            return block
        bound = (self.certifier if images is None else self._certifier(images)).sets[number]
        assert isinstance(bound, BoundWindowSSIM)
        return window_vectors(bound.operator, block)

    def _closes(self) -> Tensor:
        best = Certificate(self.objective, self.bound, self.rel_gap, self.rel_gap, self.delta)
        slack = 1 - ROUNDING
        return best.closes(self.settings.eps_abs * slack, self.settings.eps_rel * slack)

    def _finish(self, which: Tensor, status: Status, message: str = "") -> None:
        for image in (which & self.running).nonzero()[:, 0].tolist():
            self.status[image], self.messages[image] = status, message
        self.running = self.running & ~which

    def _note(self, iteration: int) -> float:
        seconds = self.elapsed
        row = HistoryRow(
            iteration,
            seconds,
            tuple(self.objective.tolist()),
            tuple(self.bound.tolist()),
            tuple(self.rel_gap.tolist()),
        )
        self._rows.append(row)
        if self.settings.verbose:
            left = sum(status is None for status in self.status)
            print(f"{iteration:7d} {seconds:9.2f} s  largest gap {max(row.rel_gap):.2e}  {left} images run", flush=True)
        return seconds

    def _calls_off(self, iteration: int, seconds: float) -> bool:
        if self.settings.callback is None:
            return False
        state = Progress(iteration, seconds, self.objective.clone(), self.bound.clone(), self.rel_gap.clone())
        return bool(self.settings.callback(state))


def _wide(values: Tensor, images: Tensor, like: Tensor) -> Tensor:
    """``values`` (K,) bool of the images, True elsewhere: (B,)."""
    return torch.ones_like(like).index_copy_(0, images, values)
