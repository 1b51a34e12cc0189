"""``ellipsoid``: a ball in linearised features and an l2 ball, by one Krylov run for all multipliers.

With multipliers of the balls ``|J d| <= r`` and ``|d| <= R`` the optimum is ``d = s z``, ``z = (I + theta J'J)^-1 g``,
a member, nearly, of the Krylov space of J'J and g. :mod:`solvers.methods.ellipsoid.golub_kahan` gives for every theta a
z in that space that is *exactly* ``g - J'y``, so that

    g'd <= R |z| + r |y|

and theta is the root of ``|y|/(theta |z|) = r/R``, where this bound is smallest over the space. The primal point is z
itself, scaled into both balls. Both values are known from the run's small matrices; a certificate is asked for when
they say that the gap closes, and at check intervals.

For a projection g is the point, s at most 1, and the l2 ball may be absent: theta is the root of ``|y| = theta r``,
or, where ``|z| > R`` there, that of the ratio. Pixels fixed by ``Support`` are left out of J and g.

With a box, pixels at its edge that the gradient pushes outwards are left out too. From the features y that the run ends
with, d is the optimum of ``g - J'y`` over the l2 ball and the box, in closed form. Where that does not close the gap
yet, because other pixels reach the box, Newton's method goes on from there (:mod:`solvers.methods.ellipsoid.newton`).
Where the box alone bounds a linear problem, d sits in a corner and that may stall before a gap of 1e-4; it is said.

Memory: a feature vector an iteration, and some ten images. An earlier result serves through its dual, as a start.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.batch_algebra import norm, per_image
from solvers.constraints.base import BoundConstraint, DualBlock
from solvers.constraints.box import Box
from solvers.constraints.feature_ball import BoundFeatureBall, FeatureBall
from solvers.constraints.lp_ball import BoundLpBall, LpBall
from solvers.methods.closed_form import l2_ball
from solvers.methods.ellipsoid.golub_kahan import Filtered, GolubKahan, Multipliers
from solvers.methods.ellipsoid.newton import BallOverBox, newton_step
from solvers.methods.monitor import Monitor
from solvers.problem import LinearProblem, Problem, ProjectionProblem
from solvers.registry import register_method
from solvers.result import MethodOutput, SolveResult
from solvers.settings import Settings

# The small matrices are looked at whenever the steps have grown by this share.
GROWTH = 0.05
# A certificate is asked for when the gap seen in the Krylov space is this share of the one allowed.
CLOSE = 0.9
# What smoothing may cost at last, as a share of the gap allowed. It falls by SHARPER whenever the smoothed problem is
# solved, that is F's gradient is down to SOLVED of r; by the root of that after each time that no step could be taken,
# until it falls by less than SLOWEST.
SMOOTHED, SHARPER, SOLVED, SLOWEST = 0.2, 0.3, 0.01, 0.95
# Where |z| falls below this share of |g| (the feature ball bounds d by itself), g - J'y is mostly cancellation.
CANCELLED = 1e-3


def _refuses(problem: Problem) -> str | None:
    features, balls = problem.find(FeatureBall), [problem.constraints[k] for k in problem.find(LpBall)]
    if len(features) != 1:
        return f"takes one FeatureBall, got {len(features)}"
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
    accepts=_refuses,
)
def ellipsoid(problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
    """A feature ball of any size with an l2 ball, and a box: one Krylov run for all multipliers, and Newton's method
    where the box matters; memory features x iterations."""
    monitor = Monitor(problem, settings)
    images = torch.arange(problem.batch, device=problem.reference.device)
    balls = _Balls(monitor, images)
    monitor.setup_done()
    monitor.check(0, *balls.point(balls.no_features()))
    if warm_start is not None and len(warm_start.dual) == len(problem.constraints):
        _resume(monitor, balls, warm_start)
    if not bool(monitor.running.any()):
        return monitor.output()
    if not bool(monitor.running.all()):
        images = monitor.running.nonzero()[:, 0]
        balls = _Balls(monitor, images)
    start = (balls.vector * balls.free).to(settings.dtype or problem.reference.dtype)
    run = GolubKahan(balls.forward, balls.adjoint, start)
    looked, features = 0, balls.no_features()
    while bool(monitor.running.any()):
        keep = monitor.running[images]
        if not bool(keep.all()):
            kept = keep.nonzero()[:, 0]
            images = images[kept]
            balls = _Balls(monitor, images)
            run.narrow(kept, balls.forward, balls.adjoint)
        run.step()
        due, ended = monitor.due(run.steps), bool(run.exhausted.all())
        if not (due or ended or run.steps > looked * (1 + GROWTH)):
            continue
        looked = run.steps
        seen = balls.best(Multipliers(run))
        closes = balls.closes(seen, run.size, settings)
        if due or ended or bool(closes.any()):
            features, z = run.combine(seen.weights), None
            if (ended or bool(closes.any())) and bool((seen.length < CANCELLED * run.size).any()):
                z = run.replay(seen.coefficients)
            monitor.check(run.steps, *balls.point(features, None if z is None else balls.along(z)), images)
        if ended or (balls.has_box and bool(closes.all())):
            # The Krylov space has nothing more to give: what is left of the gap is the box's, or rounding.
            break
    if balls.has_box:
        _go_on(monitor, balls, images, features.double(), run.steps)
    return monitor.output()


def _go_on(monitor: Monitor, balls: _Balls, images: Tensor, features: Tensor, iteration: int) -> None:
    """Newton's method from y = ``features``, one product with J'J an iteration, until all images are done."""
    smoothing = balls.first_smoothing(features)
    sharper = torch.full_like(smoothing, SHARPER)
    while bool(monitor.running.any()):
        keep = monitor.running[images].nonzero()[:, 0]
        if len(keep) < len(images):
            images, features, smoothing, sharper = images[keep], features[keep], smoothing[keep], sharper[keep]
            balls = _Balls(monitor, images)
        problem = balls.over_box(smoothing)
        new, products = newton_step(problem, features, monitor.out_of_time)
        stuck = (new == features).all(dim=1)
        features, iteration = new, iteration + products
        delta, _ = problem.nearest(features)
        monitor.check(iteration, *balls.point(features, delta), images)
        # What s may cost at last, s D^2/2 with D the largest |d| there is: a part of the gap allowed.
        allowed = monitor.settings.eps_abs + monitor.settings.eps_rel * monitor.bound[images].abs()
        least = torch.minimum(SMOOTHED * allowed / (0.5 * balls.large.square()), smoothing)
        solved = norm(problem.gradient(features, delta)) <= SOLVED * problem.small
        smoothing = torch.where(solved, torch.maximum(sharper * smoothing, least), smoothing)
        # Where no step can be taken s fell too fast: back, and slower from there.
        smoothing = torch.where(stuck, smoothing / sharper, smoothing)
        sharper = torch.where(stuck, sharper.sqrt(), sharper)
        if bool((sharper > SLOWEST).all()):
            for image in images[monitor.running[images]].tolist():
                monitor.messages[image] = "stalled: no step improves the dual any more; try admm or cvxpy:clarabel"
            break


def _resume(monitor: Monitor, balls: _Balls, warm_start: SolveResult) -> None:
    block = warm_start.dual[balls.feature_number]
    if block is None or torch.as_tensor(block).shape != balls.feature.block_shapes()[0]:
        return
    features = torch.as_tensor(block).to(balls.vector)
    if bool(features.isfinite().all()):
        delta, dual = balls.point(features)
        monitor.check(0, delta, dual)


class _Balls:
    """The sets of the images at ``images`` (K,), float64.

    Attributes:
        vector: the gradient or the point.
        free: 1 at pixels of the Krylov run, 0 at those that can't move, or are pushed out at an edge of the box.
        lower, upper: pixel bounds; has_box: whether they are more than a Support.
        small: the feature ball's radius r, (K,); large: the l2 ball's R, infinite where there is none.
    """

    def __init__(self, monitor: Monitor, images: Tensor) -> None:
        problem = monitor.problem.select(images)
        self.linear, self.vector = isinstance(problem, LinearProblem), problem.vector
        self.lower, self.upper = monitor.certifier.lower[images], monitor.certifier.upper[images]
        outwards = ((self.lower >= 0) & (self.vector < 0)) | ((self.upper <= 0) & (self.vector > 0))
        self.free = (~outwards & (self.upper > self.lower)).to(self.vector)
        self.has_box = bool(problem.find(Box))
        sets: list[BoundConstraint] = [constraint.bind(problem.reference) for constraint in problem.constraints]
        self.total = len(sets)
        self.large, self.ball_number = torch.full_like(self.vector[:, 0, 0, 0], torch.inf), -1
        for number, bound in enumerate(sets):
            if isinstance(bound, BoundFeatureBall):
                self.feature, self.small, self.feature_number = bound, bound.radius, number
            elif isinstance(bound, BoundLpBall):
                self.large, self.ball_number = bound.radius, number
        if self.linear:
            # The ball around the box's farthest corner, where there is no smaller one.
            corner = torch.maximum(self.upper.abs(), self.lower.abs())
            self.large = torch.minimum(self.large, norm(corner))

    def no_features(self) -> Tensor:
        """y = 0, (K, F)."""
        return self.vector.new_zeros(self.feature.block_shapes()[0])

    def forward(self, image: Tensor) -> Tensor:
        """``J v``, for v without fixed pixels."""
        return self.feature.jacobian.apply(image)

    def adjoint(self, features: Tensor) -> Tensor:
        """``J'u`` on the free pixels."""
        return self.feature.jacobian.apply_adjoint(features) * self.free.to(features.dtype)

    def first_smoothing(self, features: Tensor) -> Tensor:
        """s, (K,), at which the l2 ball around the box's far corner would just hold d."""
        if not self.linear:
            return torch.zeros_like(self.small)
        z = self.vector - self.feature.jacobian.apply_adjoint(features)
        return norm(z) / self.large.clamp_min(1e-300)

    def over_box(self, smoothing: Tensor) -> BallOverBox:
        """The same for Newton's method."""
        return BallOverBox(
            vector=self.vector,
            linear=self.linear,
            small=self.small,
            large=self.large,
            smoothing=smoothing,
            lower=self.lower,
            upper=self.upper,
            forward=self.forward,
            adjoint=self.feature.jacobian.apply_adjoint,
        )

    def best(self, multipliers: Multipliers) -> Filtered:
        """z and y where the bound over the Krylov space is best."""
        by_ratio = multipliers.ratio_root(self.small / self.large)
        if self.linear:
            return multipliers.at(by_ratio)
        alone = multipliers.radius_root(self.small)
        beyond = multipliers.at(alone).length > self.large
        return multipliers.at(torch.where(beyond, by_ratio, alone))

    def closes(self, seen: Filtered, size: Tensor, settings: Settings) -> Tensor:
        """Whether the gap at z, by the small matrices, is within tolerance, (K,) bool; ``size`` is |g|."""
        first, length = seen.coefficients[:, 0], seen.length
        share = self._share(length)
        inside = torch.minimum(share, self.small / seen.feature_length.clamp_min(1e-300))
        if self.linear:
            objective = inside * size * first
            bound = self.large * length + self.small * seen.dual_length
        else:
            moved = inside * length
            objective = 0.5 * (moved.square() + size.square()) - inside * size * first
            nearest = share * length
            bound = 0.5 * (size.square() - nearest.square()) - self.small * seen.dual_length
            bound = bound - torch.where(share < 1, self.large * (1 - share) * length, 0.0)
        scale = torch.maximum(objective.abs(), bound.abs())
        return (bound - objective).abs() <= CLOSE * (settings.eps_abs + settings.eps_rel * scale)

    def point(self, features: Tensor, delta: Tensor | None = None) -> tuple[Tensor, list[DualBlock | None]]:
        """d and all dual blocks at y = ``features`` (K, F); ``delta``: d, where it is known better than by y."""
        dual: list[DualBlock | None] = [None] * self.total
        dual[self.feature_number] = features
        z = self.vector - self.feature.jacobian.apply_adjoint(features.double())
        nearest, multiplier = l2_ball(z, self.large, self.lower, self.upper, linear=self.linear)
        if self.ball_number >= 0:
            dual[self.ball_number] = per_image(multiplier) * nearest
        delta = nearest if delta is None else delta
        inside = (self.small / norm(self.forward(delta)).clamp_min(1e-300)).clamp_max(1)
        return delta * per_image(inside), dual

    def along(self, z: Tensor) -> Tensor:
        """d at z (K, C, H, W)."""
        return l2_ball(z.double(), self.large, self.lower, self.upper, linear=self.linear)[0]

    def _share(self, length: Tensor) -> Tensor:
        """s, without the feature ball."""
        share = self.large / length.clamp_min(1e-300)
        if self.linear:
            return torch.where(length > 0, share, 0.0)
        return share.clamp_max(1)
