"""Where an iterative method meets :class:`~solvers.Settings`: certificates, clock, limits, callback, history.

::

    monitor = Monitor(problem, settings)
    ...                                           # whatever is computed once
    monitor.setup_done()
    while monitor.any_running:
        keep = monitor.still_running(images)      # finished images leave
        if keep is not None:
            images, delta, dual = images[keep], delta[keep], ...
        ...                                       # one iteration
        if monitor.due(iteration):
            monitor.check(iteration, delta, dual, images)
    return monitor.output()

All termination tests are in :meth:`Monitor.check`. The monitor keeps the best feasible point and the best dual of each
image *separately*: any point and any dual make a valid certificate together. The clock is that of
:mod:`solvers.methods.time_plan`. Where there is no time for the check of a single iterate, an image keeps d = 0 and the
bound of no dual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from operator import itemgetter

import torch
from torch import Tensor

from solvers import clock
from solvers.batch_algebra import all_finite
from solvers.certificate import Certificate, Certifier
from solvers.constraints.base import DualBlock
from solvers.constraints.dual_blocks import finite_images, map_dual_block
from solvers.constraints.ssim_windows.window_dual import WindowDual, window_vectors
from solvers.constraints.window_ssim import BoundWindowSSIM
from solvers.methods.time_plan import FIRST_CERTIFICATE_COST, TimePlan
from solvers.problem import LinearProblem, Problem
from solvers.result import History, HistoryRow, MethodOutput, Status
from solvers.running_solve import running_solve_of
from solvers.settings import Progress, Settings

# The final certificate is computed afresh from the best point. It may differ by this share, from rounding.
CERTIFICATE_ROUNDING = 1e-9
# The share of the time that is left for a check, at most, for the repair of a point; the bound comes after.
CERTIFICATE_TIME_SHARE = 0.8
# What the certificate of a feasible point takes beside binding's share, in evaluations of the bound.
REPAIRED_COST = 4.0


class Monitor:
    """The best certified point and dual of each image, and which images still run.

    Args:
        problem: the problem as the method was given it.
        settings: the limits, tolerances and the callback.
        own_criterion: whether the method ends by a criterion of its own, not where the gap is within tolerance. Its
            points are then returned as they were given, and ``solve`` makes them feasible. Default False.

    Attributes:
        plan: the time so far, and the end.
        settings: the limits, tolerances and the callback.
        certifier: the certifier of the whole batch, float64.
        problem: the problem of the whole batch, float64.
        running: (B,) bool, on the problem's device: whether the image has no status yet.
        delta: (B, C, H, W) float64, the best feasible point, or the point that it was made from where the method has a
            criterion of its own; 0 before the first check.
        dual: the best block of each constraint, in the method's dtype; None before the first block.
        objective, bound, rel_gap: (B,) float64, of ``delta`` and ``dual``. Before the first check: those of the point 0
            and of no dual.
        status: one per image; None while the image runs.
        iterations: one per image, at its last check.
        messages: one per image; empty where there is nothing to say.
    """

    def __init__(self, problem: Problem, settings: Settings, *, own_criterion: bool = False) -> None:
        self.plan = TimePlan(problem, settings)
        self.settings = settings
        solve = running_solve_of(problem)
        if solve is None:
            began = clock.now()
            self.certifier = Certifier(problem)
            self.plan.estimate(clock.now() - began)
        else:
            self.certifier = solve.certifier
        self._own_criterion = own_criterion
        self.problem = self.certifier.problem
        device = problem.reference.device
        self.delta = torch.zeros_like(self.problem.reference)
        self.dual: list[DualBlock | None] = [None] * len(problem.constraints)
        self.objective = self.problem.objective(self.delta)
        self.bound = self.certifier.trivial.clone()
        self.rel_gap = self.certifier.relative_gap(self.objective, self.bound)
        self.running = torch.ones(problem.batch, dtype=torch.bool, device=device)
        self.status: list[Status | None] = [None] * problem.batch
        self._running_count = problem.batch
        self.iterations = [0] * problem.batch
        self.messages = [""] * problem.batch
        self._bounding_time = 0.0
        self._rows: list[HistoryRow] = []
        self._certifiers = {tuple(range(problem.batch)): self.certifier}

    # -- the clock -----------------------------------------------------------------------------------------

    def setup_done(self) -> None:
        """Note the time at which the iterations begin."""
        self.plan.setup_done()

    def out_of_time(self) -> bool:
        """Whether it is time for the last check, which then ends the run: see :meth:`.TimePlan.out_of_time`."""
        return self.plan.out_of_time()

    def due(self, iteration: int) -> bool:
        """Whether a check is due after ``iteration`` iterations: at the interval, and at either limit."""
        settings = self.settings
        is_due = self.out_of_time() or iteration % settings.check_interval == 0 or iteration >= settings.max_iter
        if is_due:
            self.begin_check()
        return is_due

    def begin_check(self) -> None:
        """Note that from here on all work is done for the next check. :meth:`due` does so where a check is due."""
        self.plan.begin_check()

    # -- who runs --------------------------------------------------------------------------------------------

    @property
    def any_running(self) -> bool:
        """Whether any image still runs. Never waits for a GPU."""
        return self._running_count > 0

    def still_running(self, images: Tensor) -> Tensor | None:
        """Which of ``images`` still run: their places in ``images``, long (K',). ``None`` where all of them run.

        Only a check makes images finish, and between checks this question never waits for a GPU.

        Args:
            images: long (K,), image numbers in the batch. Every image that still runs must be among them.
        """
        if len(images) == self._running_count:
            return None
        return self.running[images].nonzero()[:, 0]

    # -- checks ----------------------------------------------------------------------------------------------

    def check(
        self,
        iteration: int,
        delta: Tensor,
        dual: Sequence[DualBlock | None],
        images: Tensor | None = None,
        chunk: int | None = None,
        bound: Tensor | None = None,
    ) -> bool:
        """Certify an iterate in float64, keep the better point and the better dual, and decide which images are done.

        An image is done when its gap is within tolerance, when its iterate is not finite, when the callback stops the
        run, or at a limit of iterations or time. Where there is no time for a start's certificate or for the first
        iterate's, the check is that of :meth:`check_best`.

        Args:
            iteration: the number of iterations so far; 0 for a start.
            delta: (K, C, H, W), not necessarily feasible; any float dtype.
            dual: one block per constraint, or None.
            images: long (K,), the images that ``delta`` and ``dual`` belong to; default: all images. Other images keep
                their points and duals.
            chunk: how many images are certified at a time (as many as fit a CPU's cache); default: all at once.
            bound: (K,), a bound that the method has proved by ``dual`` itself. The duals are then not certified here;
                ``solve`` does so in the end. Default: the duals' certificate.

        Returns:
            Whether any image still runs.
        """
        if self.too_late_to_certify(iteration):
            return self.check_best(iteration)
        self.plan.begin_check(unless_begun=True)
        began = clock.now()
        if images is None:
            images = torch.arange(len(self.status), device=self.running.device)
        self._bounding_time = 0.0
        with clock.deadline(self.plan.share_of_check(CERTIFICATE_TIME_SHARE)):
            certificate = self._certify(images, delta, dual if bound is None else None, chunk or len(images))
        if bound is not None:
            certificate = replace(certificate, bound=bound)
        if self._own_criterion:
            certificate = replace(certificate, delta=delta.to(self.delta))
        # The final certificate is that of a feasible point: of the repair it has only the tests.
        final = REPAIRED_COST * self._bounding_time + FIRST_CERTIFICATE_COST * self.plan.binding_time
        self.plan.check_done(min(clock.now() - began, final), of_iterate=iteration > 0)
        self._keep_better(images, certificate, dual)
        # All termination tests.
        finite = all_finite(delta)
        for block in dual:
            if block is not None:
                finite &= finite_images(block)
        checked = torch.zeros_like(self.running).index_fill_(0, images, True)
        for image in (checked & self.running).nonzero()[:, 0].tolist():
            self.iterations[image] = iteration
        if not self._own_criterion:
            self._finish(self._closes(), Status.OPTIMAL)
        self._finish(checked & ~_wide(finite, images, self.running), Status.NUMERICAL_ERROR, "iterate is not finite")
        return self._end_check(iteration)

    def too_late_to_certify(self, iteration: int) -> bool:
        """Whether there is no time to certify a start (``iteration`` 0), or no time to certify a first iterate."""
        return self.plan.too_late_for_first_check if iteration else self.plan.too_late_for_a_certificate

    def check_best(self, iteration: int = 0) -> bool:
        """The check of the best point and dual so far, without a certificate. At the start they are d = 0 and none.

        For a method that has no better start, and where :meth:`too_late_to_certify` says so.

        Returns:
            Whether any image still runs.
        """
        for image in self.running.nonzero()[:, 0].tolist():
            self.iterations[image] = iteration
        if not self._own_criterion:
            self._finish(self._closes(), Status.OPTIMAL)
        return self._end_check(iteration)

    def _end_check(self, iteration: int) -> bool:
        """The history, the callback and the limits; whether any image still runs."""
        seconds = self._note(iteration)
        if self._calls_off(iteration, seconds):
            self._finish(self.running, Status.STOPPED)
        if iteration >= self.settings.max_iter:
            self._finish(self.running, Status.MAX_ITER)
        if self.plan.last_check_is_due:
            self._finish(self.running, Status.TIME_LIMIT)
        self.plan.resume()
        return self.any_running

    def output(self) -> MethodOutput:
        """What the method returns: the best points and duals. An image that still runs gets the status MAX_ITER."""
        return MethodOutput(
            delta=self.delta,
            dual=tuple(self.dual),
            status=tuple(status or Status.MAX_ITER for status in self.status),
            iterations=tuple(self.iterations),
            history=History(self._rows),
            setup_time=self.plan.setup_time,
            messages=tuple(self.messages),
        )

    def _certify(
        self, images: Tensor, delta: Tensor, dual: Sequence[DualBlock | None] | None, chunk: int
    ) -> Certificate:
        """The certificate of the images, made ``chunk`` images at a time."""
        groups = images.split(chunk)
        # Certifiers are kept while the same images run: binding the sets costs as much as a certificate.
        keys = [tuple(group.tolist()) for group in groups]
        self._certifiers = {
            key: self._certifiers.get(key) or self._certifier(group) for key, group in zip(keys, groups, strict=True)
        }
        certificates = []
        for k, key in enumerate(keys):
            members = slice(k * chunk, (k + 1) * chunk)
            certifier = self._certifiers[key]
            certificate = certifier.certify(delta[members])
            if dual is not None:
                blocks = [block if block is None else map_dual_block(itemgetter(members), block) for block in dual]
                certificate = self._with_bound(certifier, certificate, blocks)
            certificates.append(certificate)
        if len(certificates) == 1:
            return certificates[0]
        columns = ([getattr(entry, field.name) for entry in certificates] for field in fields(Certificate))
        return Certificate(*(torch.cat(column) for column in columns))

    def _with_bound(
        self, certifier: Certifier, certificate: Certificate, dual: Sequence[DualBlock | None]
    ) -> Certificate:
        """The certificate of a point with the bound of ``dual``, whose time is kept."""
        began = clock.now()
        bound = certifier.bound(dual)
        self._bounding_time += clock.now() - began
        return replace(certificate, bound=bound, rel_gap=certifier.relative_gap(certificate.objective, bound))

    def _certifier(self, images: Tensor) -> Certifier:
        return self.certifier if len(images) == len(self.status) else self.certifier.select(images)

    def _keep_better(self, images: Tensor, certificate: Certificate, dual: Sequence[DualBlock | None]) -> None:
        """Take the certified point where its objective is better, and the dual where its bound is tighter."""
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
        """``block`` as window vectors. A :class:`WindowDual` and window vectors can only be stored together as the
        latter."""
        if not isinstance(block, WindowDual):
            return block
        bound = (self.certifier if images is None else self._certifier(images)).sets[number]
        assert isinstance(bound, BoundWindowSSIM)
        return window_vectors(bound.operator, block)

    def _closes(self) -> Tensor:
        """Whether the gap is within tolerance, (B,) bool."""
        best = Certificate(self.objective, self.bound, self.rel_gap, self.rel_gap, self.delta)
        slack = 1 - CERTIFICATE_ROUNDING
        return best.closes(self.settings.eps_abs * slack, self.settings.eps_rel * slack)

    def _finish(self, which: Tensor, status: Status, message: str = "") -> None:
        """Give ``status`` to the images of ``which`` (B,) bool that still run."""
        for image in (which & self.running).nonzero()[:, 0].tolist():
            self.status[image], self.messages[image] = status, message
            self._running_count -= 1
        self.running = self.running & ~which

    def _note(self, iteration: int) -> float:
        """Add a row to the history, print the row where that is asked for, and return the seconds so far."""
        seconds = self.plan.elapsed
        row = HistoryRow(
            iteration,
            seconds,
            tuple(self.objective.tolist()),
            tuple(self.bound.tolist()),
            tuple(self.rel_gap.tolist()),
        )
        self._rows.append(row)
        if self.settings.verbose:
            count = sum(status is None for status in self.status)
            gap = max(row.rel_gap)
            print(f"{iteration:7d} {seconds:9.2f} s  largest gap {gap:.2e}  {count} images run", flush=True)
        return seconds

    def _calls_off(self, iteration: int, seconds: float) -> bool:
        """Show the progress to the callback; whether the callback stops the run."""
        if self.settings.callback is None:
            return False
        state = Progress(iteration, seconds, self.objective.clone(), self.bound.clone(), self.rel_gap.clone())
        return bool(self.settings.callback(state))


def _wide(values: Tensor, images: Tensor, like: Tensor) -> Tensor:
    """``values`` (K,) bool at ``images``, True at all other images: (B,)."""
    return torch.ones_like(like).index_copy_(0, images, values)
