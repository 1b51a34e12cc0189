"""``perceptual_ball_constrained``: the largest margin within a ball of deep features, by certified convex steps.

The constrained counterpart of the perceptual ball (Elliott, Law, Russell, CVPR 2021): that method weighs the feature
distance against the margin, this one bounds the feature distance. J, the derivative of the features at the clean image,
is computed once. The step at an iterate ``x + d_k`` solves a convex problem, with a certificate::

    s       = argmax g_k's    subject to    |J s| <= rho,   |s|_2 <= R,   0 <= x + s <= 1
    d_{k+1} = d_k + t (s - d_k)

where t is the longest of a few step lengths that raises the true margin and keeps the *true* feature distance
``|phi(x + d) - phi(x)|`` within the radius. rho and R are each image's own:

- rho starts at the radius. Where the true distance of the whole step is a multiple of the radius, rho becomes the
  radius divided by that multiple.
- R is ``|d_k|`` plus the size of a region. The region is halved where no length serves, and doubled where the whole
  step serves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

import solvers
from solvers.batch_algebra import norm
from ssimpert.linearization import FeatureJacobian, Features, Margin, deep_features, feature_jacobian
from ssimpert.linearization.deep_features import Normalization
from ssimpert.linearization.margins import margin_for
from ssimpert.metrics import feature_distance
from ssimpert.models.entry_points import takes_model
from ssimpert.perturbation.engines import loop
from ssimpert.perturbation.engines.around_original import proposed_step
from ssimpert.perturbation.engines.step_solver import PIXEL_BOX
from ssimpert.perturbation.evaluation import measure, require_sound_gradients, require_sound_margins
from ssimpert.perturbation.goal import Goal
from ssimpert.perturbation.inputs import check_image, checked_goal
from ssimpert.perturbation.results import FeatureBallResult, PerturbResult
from ssimpert.perturbation.shrinking import shrink_option, shrink_to_goal
from ssimpert.records import describe
from ssimpert.validation import Numbers, check_count, check_positive, check_radii

Observer = Callable[[loop.AscentState], None]
# An image stops where its step region is smaller than this share of the first one.
SMALLEST_STEP_REGION = 2.0**-6
# The region is multiplied by these: where no length serves, and where the whole step serves.
STEP_REGION_CUT, STEP_REGION_GROWTH = 0.5, 2.0
# rho is never smaller than this share of the radius.
SMALLEST_RHO = 0.05


@takes_model
def perceptual_ball_constrained(
    model: nn.Module,
    image: Tensor,
    radius: float | Numbers,
    *,
    layers: Sequence[str] | None = None,
    normalization: Normalization = "unit-channel",
    step_norm: float = 0.25,
    steps: int = 20,
    margin: Margin | None = None,
    label: Tensor | None = None,
    stop_at_success: bool = True,
    shrink: bool | None = None,
    method: str = "auto",
    settings: solvers.Settings | dict[str, object] | None = None,
    name: str | None = None,
    observer: Observer | None = None,
) -> FeatureBallResult:
    """Raise the margin while the feature distance stays within the radius: ``|phi(x') - phi(x)| <= radius``.

    Args:
        model: a :class:`~ssimpert.Classifier`, or a module on [0, 1] images that returns logits (B, K).
        image: x, (B, C, H, W) in [0, 1], float32 or float64.
        radius: positive, one number or one per image (B,), in the features' own unit. To match an L-BFGS solution:
            its ``feature_distance``, with the same ``layers`` and ``normalization="mse"``.
        layers, normalization: of the features; see :func:`~ssimpert.deep_features`.
        step_norm: R at first, an l2 norm in [0, 1] pixels; 0.25 is a root mean square of 0.0006 at 3x224x224. In a
            small region the network is nearly linear, and steps are quick to solve; the region grows where that holds.
        steps: most steps per image, at least 1.
        margin: the goal; default :class:`~ssimpert.Untargeted`.
        label: the images' classes (B,); default: the model's own labels.
        stop_at_success: freeze an image once its goal is reached; ``False`` spends all steps on the largest margin.
        shrink: draw a successful perturbation back along its segment, to the smallest share that still succeeds, as for
            :func:`~ssimpert.perturb`. Default: wherever ``stop_at_success`` is on.
        method: the solver's method, for each step.
        settings: the solver's settings; default ``eps_rel=0.03, max_iter=200``. ``history`` has the relative gap of
            every step.
        name: what tables call it.
        observer: called with the state after every step.

    Returns:
        One entry per image, failures included. ``violation`` is the excess of the true feature distance of the returned
        image over the radius. Every iterate keeps to the radius, so only rounding to the images' dtype can exceed it.

    Raises:
        InputError: images, layers, radius or options that can't be used; raised before any step.
    """
    began = time.perf_counter()
    margin = margin_for(margin, model)
    settings = solvers.Settings(eps_rel=0.03, max_iter=200) if settings is None else solvers.Settings.of(settings)
    check_image(image)
    steps, step_norm = check_count("steps", steps), check_positive("step_norm", step_norm)
    radii = check_radii("radius", radius, image)
    shrink = shrink_option(shrink, stop_at_success=bool(stop_at_success))
    features = deep_features(model, layers, normalization)
    goal = checked_goal(model, image, label, margin)
    state = loop.start(goal, image, stop_at_success=stop_at_success)
    jacobian = feature_jacobian(features, image)
    move = FeatureBallMove(goal, features, jacobian, image.to(torch.float64), radii, step_norm, method, settings)
    for reached in loop.ascend(goal, state, move, steps=steps, stop_at_success=stop_at_success):
        if observer is not None:
            observer(reached)
    final = state.final()
    if shrink:
        final = shrink_to_goal(goal, image, final, move.excess)
    result = measure(
        goal,
        image,
        final,
        step_solver=None,
        constraint=None,
        name=name or "feature ball",
        settings={
            "method": "perceptual_ball_constrained",
            "radius": radii.tolist(),
            "layers": list(features.layers),
            "normalization": normalization,
            "step_norm": step_norm,
            "steps": steps,
            "margin": describe(margin),
            "recentred": False,
            "stop_at_success": bool(stop_at_success),
            "shrink": shrink,
            "solver": {"method": method, "eps_rel": settings.eps_rel, "max_iter": settings.max_iter},
            "label": None if label is None else goal.label.tolist(),
        },
    )
    require_sound_margins(result.margin_before)
    require_sound_gradients(result)
    result = replace(result, seconds=time.perf_counter() - began)
    return _with_distance(result, features, image, radii)


@dataclass
class FeatureBallMove:
    """The step of :func:`perceptual_ball_constrained`; a move for :func:`~ssimpert.perturbation.engines.loop.ascend`.

    Attributes:
        goal: whose margin is raised.
        features: phi.
        jacobian: J, the derivative of ``features`` at ``original``.
        original: the clean images, (B, C, H, W) float64.
        radius: the feature distance allowed, (B,) float64.
        step_norm: the first size of the region.
        method, settings: of the solver.
        rho: the bound on ``|J s|`` in the next step, (B,) float64.
        region: the size of the next step's region, (B,) float64.
    """

    goal: Goal
    features: Features
    jacobian: FeatureJacobian
    original: Tensor
    radius: Tensor
    step_norm: float
    method: str
    settings: solvers.Settings
    rho: Tensor = field(init=False)
    region: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.rho, self.region = self.radius.clone(), torch.full_like(self.radius, self.step_norm)

    def __call__(self, state: loop.AscentState, active: Tensor, gradient: Tensor) -> tuple[solvers.SolveResult, Tensor]:
        """Solve the convex step, search along it, and set rho and the region for the next one."""
        delta = state.images[active] - self.original[active]
        step = proposed_step(state, active, self._solve(active, delta, gradient), delta)
        whole_distance = self._distance((state.images[active] + step.direction).clamp(0, 1), active)
        length = loop.line_search(self.goal, state, active, step.direction, allowed=self._within_radius)
        self._resize(active, length, whole_distance)
        exhausted = (length == 0) & ~step.unsolved & (self.region[active] < SMALLEST_STEP_REGION * self.step_norm)
        state.stop(active[exhausted], "no step, however short, raises the margin within the feature distance any more")
        return step.solution, length

    def _solve(self, active: Tensor, delta: Tensor, gradient: Tensor) -> solvers.SolveResult:
        """``argmax g's`` for the images at ``active``, (K,), which stand at ``delta`` (K, C, H, W)."""
        # The region is around the iterate, the ball around the original: R holds d_k and a step of the region.
        sets = [
            solvers.FeatureBall(self.rho[active], self.jacobian.select(active, len(self.radius))),
            solvers.LpBall(2, norm(delta) + self.region[active]),
            PIXEL_BOX,
        ]
        problem = solvers.LinearProblem(gradient, self.original[active], sets)
        return solvers.solve(problem, method=self.method, settings=self.settings)

    def _resize(self, active: Tensor, length: Tensor, whole_distance: Tensor) -> None:
        """Set region and rho from the lengths that served, (K,), and the whole steps' true distances, (K,)."""
        factor = torch.where(length == 1, STEP_REGION_GROWTH, 1.0)
        self.region[active] *= torch.where(length == 0, STEP_REGION_CUT, factor)
        share = (self.radius[active] / whole_distance.clamp_min(1e-300)).clamp(SMALLEST_RHO, 1)
        self.rho[active] = torch.minimum(self.rho[active], self.radius[active] * share)

    def _distance(self, images: Tensor, indices: Tensor) -> Tensor:
        return feature_distance(self.features, self.original[indices], images)

    def excess(self, images: Tensor, indices: Tensor) -> Tensor:
        """By how much feature distances of images (K, C, H, W) exceed their radii, (K,) float64."""
        return self._distance(images.to(torch.float64), indices) - self.radius[indices]

    def _within_radius(self, images: Tensor, indices: Tensor) -> Tensor:
        return self._distance(images, indices) <= self.radius[indices]


def _with_distance(result: PerturbResult, features: Features, image: Tensor, radii: Tensor) -> FeatureBallResult:
    """``result`` with the true feature distance of its images, and their excess over the radii (B,)."""
    distance = feature_distance(features, image.double(), result.adversarial.double())
    violation = (distance - radii).clamp_min(0).to(image.dtype)
    return FeatureBallResult.extending(
        replace(result, violation=violation),
        layers=features.layers,
        radius=radii.to(image.dtype),
        feature_distance=distance.to(image.dtype),
    )
