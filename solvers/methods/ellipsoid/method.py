"""``ellipsoid``: a ball in linearised features and an l2 ball, by one Krylov run for all multipliers.

For ``max g'd`` over ``|J d| <= r`` and ``|d| <= R``: with theta the ratio of the two balls' multipliers, the optimum is
``d = s z`` with ``z = (I + theta J'J)^-1 g``, which lies (nearly) in the Krylov space of J'J and g. In that space
:mod:`solvers.methods.ellipsoid.golub_kahan` gives, for every theta, a z that is *exactly* ``g - J'y``. So

    g'd <= R |z| + r |y|

for every feasible d. theta is the root of ``|y|/(theta |z|) = r/R``, at which this bound is smallest over the space.
The primal point is z itself, scaled into both balls. Objective and bound follow from the run's small matrices; a
certificate is asked for when they say that the gap closes, and at check intervals.

For a projection g is the point, s is at most 1, and the l2 ball may be absent: theta is the root of ``|y| = theta r``;
where ``|z| > R`` there, theta is the root for the ratio. Pixels fixed by ``Support`` are left out of J and g.

With a box, pixels at an edge of the box that the gradient pushes outwards are left out too. From the features y that
the run ends with, d is the optimum of ``g - J'y`` over the l2 ball and the box, in closed form. Other pixels may reach
the box, and then the gap does not close yet: Newton's method goes on from there
(:mod:`solvers.methods.ellipsoid.newton`). Where the box alone bounds a linear problem, d sits in a corner, and the
method may stall before a gap of 1e-4; the result's message says so.

Memory: one feature vector an iteration, and some ten images. Of an earlier result only the dual is used, as a start.
The page docs/methods/ellipsoid.md has the mathematics.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.batch_algebra import norm, per_image
from solvers.constraints.base import BoundConstraint, DualBlock
from solvers.constraints.box import Box
from solvers.constraints.feature_ball import BoundFeatureBall, FeatureBall
from solvers.constraints.lp_ball import BoundLpBall, LpBall
from solvers.methods.closed_form import l2_ball
from solvers.methods.ellipsoid.golub_kahan import GolubKahan, Multipliers, Resolvent
from solvers.methods.ellipsoid.newton import BallOverBox, newton_step
from solvers.methods.monitor import Monitor
from solvers.methods.refusals import unless_single
from solvers.problem import LinearProblem, Problem, ProjectionProblem
from solvers.registry import register_method
from solvers.result import MethodOutput, SolveResult
from solvers.settings import Settings
from solvers.windows.quadratic import Bounds

# The small matrices are evaluated whenever the steps have grown by this share.
EVALUATION_GROWTH = 0.05
# A certificate is asked for when the gap seen in the Krylov space is this share of the gap allowed.
CLOSING_SHARE = 0.9
# Where |z| falls below this share of |g|, the feature ball bounds d by itself, and g - J'y is mostly cancellation. Then
# z is computed from the v.
CANCELLATION_SHARE = 1e-3
# Smoothing. In the end it may cost FINAL_SMOOTHING_SHARE of the gap allowed. It falls by SMOOTHING_FACTOR whenever the
# smoothed problem is solved, that is, whenever F's gradient is at most SOLVED_SHARE of r. Each time that no step can be
# taken, the factor becomes its own square root, until it exceeds LARGEST_SMOOTHING_FACTOR.
FINAL_SMOOTHING_SHARE, SMOOTHING_FACTOR, SOLVED_SHARE, LARGEST_SMOOTHING_FACTOR = 0.2, 0.3, 0.01, 0.95


def _refusal(problem: Problem) -> str | None:
    """Why the method can't take the problem, or ``None``."""
    reason = unless_single(problem, FeatureBall)
    if reason is not None:
        return reason
    balls = [problem.constraints[k] for k in problem.find(LpBall)]
    for ball in balls:
        assert isinstance(ball, LpBall)
        if ball.p != 2:
            return f"takes no LpBall with p={ball.p}"
    if len(balls) > 1:
        return f"takes one LpBall, got {len(balls)}"
    if isinstance(problem, LinearProblem) and not balls and not problem.find(Box):
        return "needs LpBall with p=2 or Box for a LinearProblem"
    return None


@register_method(
    "ellipsoid",
    problems=(LinearProblem, ProjectionProblem),
    required={"FeatureBall"},
    optional={"LpBall", "Support", "Box"},
    warm_start=True,
    accepts=_refusal,
)
def ellipsoid(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """A feature ball of any size with an l2 ball, and a box: one Krylov run for all multipliers, and Newton's method
    where the box matters; memory features x iterations."""
    # The optimum without the feature ball may do already, or an earlier result's dual.
    monitor = Monitor(problem, settings)
    balls = _Balls(monitor, torch.arange(problem.batch, device=problem.reference.device))
    monitor.setup_done()
    monitor.begin_check()
    monitor.check(0, *balls.point(balls.no_features()))
    if warm_start is not None and len(warm_start.dual) == len(problem.constraints):
        _check_earlier(monitor, balls, warm_start)

    # The optimum without the box, except for pixels that it clearly holds; then Newton's method with the box.
    if monitor.any_running:
        end = _krylov_run(monitor, balls, settings.dtype or problem.reference.dtype)
        if balls.has_box and monitor.any_running:
            _newton_iterations(monitor, end)
    return monitor.output()


def _check_earlier(monitor: Monitor, balls: _Balls, warm_start: SolveResult) -> None:
    """Certify the point that belongs to an earlier result's dual features, where they fit and are finite."""
    block = warm_start.dual[balls.feature_position]
    if block is None or torch.as_tensor(block).shape != balls.feature.block_shapes()[0]:
        return
    features = torch.as_tensor(block).to(balls.vector)
    if bool(features.isfinite().all()):
        delta, dual = balls.point(features)
        monitor.check(0, delta, dual)


@dataclass(frozen=True)
class _Iterate:
    """Where a phase ended.

    Attributes:
        balls: the sets of the images that the features are of, K of them.
        features: y, (K, F).
        iteration: the number of iterations so far.
    """

    balls: _Balls
    features: Tensor
    iteration: int


def _krylov_run(monitor: Monitor, balls: _Balls, dtype: torch.dtype) -> _Iterate:
    """Bidiagonalise until the images are done, or the Krylov space has nothing more to give: then what is left of the
    gap is the box's, or rounding. ``balls`` are those of all images; the run iterates in ``dtype``."""
    settings = monitor.settings
    keep = monitor.still_running(balls.images)
    if keep is not None:
        balls = _Balls(monitor, balls.images[keep])
    run = GolubKahan(balls.forward, balls.adjoint, (balls.vector * balls.free).to(dtype))
    evaluated_at, features = 0, balls.no_features()
    while monitor.any_running:
        # Finished images leave.
        keep = monitor.still_running(balls.images)
        if keep is not None:
            balls = _Balls(monitor, balls.images[keep])
            run.select(keep, balls.forward, balls.adjoint)

        # One step: one product with J and one with J'.
        run.step()
        due, exhausted = monitor.due(run.steps), bool(run.exhausted.all())
        if not (due or exhausted or run.steps > evaluated_at * (1 + EVALUATION_GROWTH)):
            continue

        # The best multiplier and its gap, by the small matrices.
        monitor.begin_check()
        evaluated_at = run.steps
        resolvent = balls.best(Multipliers(run))
        closes = balls.closes(resolvent, run.size, settings)
        any_closes = bool(closes.any())

        # Certify.
        if due or exhausted or any_closes:
            features, delta = run.combine(resolvent.weights), None
            cancels = resolvent.length < CANCELLATION_SHARE * run.size
            if (exhausted or any_closes) and bool(cancels.any()):
                delta = balls.along(run.replay(resolvent.coefficients))
            monitor.check(run.steps, *balls.point(features, delta), balls.images)
        if exhausted or (balls.has_box and bool(closes.all())):
            break
    return _Iterate(balls, features, run.steps)


def _newton_iterations(monitor: Monitor, start: _Iterate) -> None:
    """Newton's method from y = ``start.features`` until all images are done. An iteration is a product with J'J."""
    balls, features, iteration = start.balls, start.features.double(), start.iteration
    smoothing = balls.initial_smoothing(features)
    factor = torch.full_like(smoothing, SMOOTHING_FACTOR)
    while monitor.any_running:
        # Finished images leave.
        keep = monitor.still_running(balls.images)
        if keep is not None:
            features, smoothing, factor = features[keep], smoothing[keep], factor[keep]
            balls = _Balls(monitor, balls.images[keep])

        # One Newton step on the smoothed dual.
        smoothed = balls.over_box(smoothing)
        new, products = newton_step(smoothed, features, monitor.out_of_time)
        stuck = (new == features).all(dim=1)
        features, iteration = new, iteration + products

        # Certify.
        monitor.begin_check()
        delta, _ = smoothed.maximiser(features)
        monitor.check(iteration, *balls.point(features, delta), balls.images)

        # Smooth less where the smoothed problem is solved; where no step can be taken, more, and fall by less from now.
        solved = norm(smoothed.gradient(features, delta)) <= SOLVED_SHARE * smoothed.feature_radius
        final = torch.minimum(balls.final_smoothing(monitor), smoothing)
        smoothing = torch.where(solved, torch.maximum(factor * smoothing, final), smoothing)
        smoothing = torch.where(stuck, smoothing / factor, smoothing)
        factor = torch.where(stuck, factor.sqrt(), factor)

        # Give up where the factor has reached its end.
        if bool((factor > LARGEST_SMOOTHING_FACTOR).all()):
            for image in balls.images[monitor.running[balls.images]].tolist():
                monitor.messages[image] = "stalled: no step improves the dual any more; try admm or cvxpy:clarabel"
            break


class _Balls:
    """The sets of some images, float64.

    Attributes:
        images: long (K,), the numbers of the images.
        linear: whether the problem is a LinearProblem.
        vector: the gradient g or the point to project, (K, C, H, W).
        bounds: the pixel bounds, (K, C, H, W) each.
        has_box: whether the pixel bounds are more than those of a Support.
        free: (K, C, H, W), 1 at pixels of the Krylov run; 0 at pixels that can't move, or that the gradient pushes out
            at an edge of the box.
        feature: the feature ball, bound to the images.
        feature_radius: r, (K,).
        l2_radius: R, (K,); infinite where there is no l2 ball and no box.
        feature_position, l2_position: the two balls' positions in the problem's constraints; ``None`` for no l2 ball.
        set_count: the number of all sets.
    """

    def __init__(self, monitor: Monitor, images: Tensor) -> None:
        self.images = images
        problem = monitor.problem.select(images)
        self.linear, self.vector = isinstance(problem, LinearProblem), problem.vector
        lower, upper = monitor.certifier.lower[images], monitor.certifier.upper[images]
        self.bounds = Bounds(lower, upper)
        outwards = ((lower >= 0) & (self.vector < 0)) | ((upper <= 0) & (self.vector > 0))
        self.free = (~outwards & (upper > lower)).to(self.vector)
        self.has_box = bool(problem.find(Box))
        sets: list[BoundConstraint] = [constraint.bind(problem.reference) for constraint in problem.constraints]
        self.set_count = len(sets)
        self.l2_radius = torch.full_like(self.vector[:, 0, 0, 0], torch.inf)
        self.l2_position: int | None = None
        for position, bound in enumerate(sets):
            if isinstance(bound, BoundFeatureBall):
                self.feature, self.feature_radius, self.feature_position = bound, bound.radius, position
            elif isinstance(bound, BoundLpBall):
                self.l2_radius, self.l2_position = bound.radius, position
        if self.linear:
            # Without a smaller ball: the ball around the box's farthest corner.
            corner = torch.maximum(upper.abs(), lower.abs())
            self.l2_radius = torch.minimum(self.l2_radius, norm(corner))

    def no_features(self) -> Tensor:
        """y = 0, (K, F)."""
        return self.vector.new_zeros(self.feature.block_shapes()[0])

    def forward(self, image: Tensor) -> Tensor:
        """``J v``, for v that is 0 at pixels that are not free."""
        return self.feature.jacobian.apply(image)

    def adjoint(self, features: Tensor) -> Tensor:
        """``J'u`` on the free pixels, 0 elsewhere."""
        return self.feature.jacobian.apply_adjoint(features) * self.free.to(features.dtype)

    # -- the Krylov run --------------------------------------------------------------------------------------

    def best(self, multipliers: Multipliers) -> Resolvent:
        """z and y at the theta where the bound over the Krylov space is best."""
        by_ratio = multipliers.ratio_root(self.feature_radius / self.l2_radius)
        if self.linear:
            return multipliers.at(by_ratio)
        without_l2_ball = multipliers.radius_root(self.feature_radius)
        beyond = multipliers.at(without_l2_ball).length > self.l2_radius
        return multipliers.at(torch.where(beyond, by_ratio, without_l2_ball))

    def closes(self, resolvent: Resolvent, size: Tensor, settings: Settings) -> Tensor:
        """Whether the gap at z is within tolerance by the small matrices, (K,) bool.

        Args:
            resolvent: z and y.
            size: |g|, (K,).
            settings: the tolerances.
        """
        first, length = resolvent.coefficients[:, 0], resolvent.length
        share = self._l2_share(length)
        inside = torch.minimum(share, self.feature_radius / resolvent.feature_length.clamp_min(1e-300))
        if self.linear:
            objective = inside * size * first
            bound = self.l2_radius * length + self.feature_radius * resolvent.dual_length
        else:
            scaled_length = inside * length
            objective = 0.5 * (scaled_length.square() + size.square()) - inside * size * first
            nearest = share * length
            bound = 0.5 * (size.square() - nearest.square()) - self.feature_radius * resolvent.dual_length
            bound = bound - torch.where(share < 1, self.l2_radius * (1 - share) * length, 0.0)
        scale = torch.maximum(objective.abs(), bound.abs())
        return (bound - objective).abs() <= CLOSING_SHARE * (settings.eps_abs + settings.eps_rel * scale)

    def _l2_share(self, length: Tensor) -> Tensor:
        """s, by which z of ``length`` (K,) is scaled into the l2 ball alone."""
        share = self.l2_radius / length.clamp_min(1e-300)
        if self.linear:
            return torch.where(length > 0, share, 0.0)
        return share.clamp_max(1)

    # -- points with their duals -----------------------------------------------------------------------------

    def point(self, features: Tensor, delta: Tensor | None = None) -> tuple[Tensor, list[DualBlock | None]]:
        """d, scaled into the feature ball, and all dual blocks at y.

        Args:
            features: y, (K, F).
            delta: d before scaling, where it is known more exactly than by y; default: the optimum of ``g - J'y``.
        """
        dual: list[DualBlock | None] = [None] * self.set_count
        dual[self.feature_position] = features
        z = self.vector - self.feature.jacobian.apply_adjoint(features.double())
        optimum, multiplier = l2_ball(z, self.l2_radius, self.bounds, linear=self.linear)
        if self.l2_position is not None:
            dual[self.l2_position] = per_image(multiplier) * optimum
        delta = optimum if delta is None else delta
        inside = (self.feature_radius / norm(self.forward(delta)).clamp_min(1e-300)).clamp_max(1)
        return delta * per_image(inside), dual

    def along(self, z: Tensor) -> Tensor:
        """The optimum d of z (K, C, H, W) over the l2 ball and the box."""
        return l2_ball(z.double(), self.l2_radius, self.bounds, linear=self.linear)[0]

    # -- Newton's method -------------------------------------------------------------------------------------

    def over_box(self, smoothing: Tensor) -> BallOverBox:
        """The problem in the form that Newton's method takes, with the smoothing s (K,)."""
        return BallOverBox(
            vector=self.vector,
            linear=self.linear,
            feature_radius=self.feature_radius,
            l2_radius=self.l2_radius,
            smoothing=smoothing,
            bounds=self.bounds,
            forward=self.forward,
            adjoint=self.feature.jacobian.apply_adjoint,
        )

    def initial_smoothing(self, features: Tensor) -> Tensor:
        """s, (K,), with which the unconstrained optimum ``z/s`` has length R; 0 for a projection."""
        if not self.linear:
            return torch.zeros_like(self.feature_radius)
        z = self.vector - self.feature.jacobian.apply_adjoint(features)
        return norm(z) / self.l2_radius.clamp_min(1e-300)

    def final_smoothing(self, monitor: Monitor) -> Tensor:
        """s, (K,), with which the cost ``s R^2/2`` of smoothing is FINAL_SMOOTHING_SHARE of the gap allowed. (R is at
        least the largest |d| there is; the |d| of the present point would allow too much.)"""
        allowed = monitor.settings.eps_abs + monitor.settings.eps_rel * monitor.bound[self.images].abs()
        return FINAL_SMOOTHING_SHARE * allowed / (0.5 * self.l2_radius.square())
