"""``perceptual_ball_constrained``: the largest margin within a ball of deep features, by certified convex steps.

The constrained counterpart of the perceptual ball (Elliott, Law, Russell, CVPR 2021): where that method weighs the
feature distance against the margin, this one bounds it. J, the derivative of the features at the clean image, is taken
once. At an iterate ``x + d_k`` a step is a convex problem with a certificate,

    s = argmax g_k's    subject to    |J s| <= rho,   |s|_2 <= R,   0 <= x + s <= 1,

and the iterate moves towards s by the longest of a few step lengths that raises the true margin while the *true*
feature distance ``|phi(x + d) - phi(x)|`` is within the radius. rho and R are the image's own. rho starts at the
radius; where the whole step's true distance exceeds the radius by a factor, rho becomes the radius by that factor. R is
``|d_k|`` and a region's size, which is halved where no length will do and doubled where the whole step will.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import fields

import torch
from torch import Tensor, nn

import solvers
from solvers.batch_algebra import norm
from ssimpert.errors import InputError
from ssimpert.linearization import Features, Margin, Untargeted, deep_features, feature_jacobian
from ssimpert.linearization.deep_features import Normalization
from ssimpert.metrics import feature_distance
from ssimpert.perturbation.engines import loop
from ssimpert.perturbation.engines.oracle import PIXELS
from ssimpert.perturbation.evaluation import measure, require_sound_gradients, require_sound_margins
from ssimpert.perturbation.inputs import check_image, labels_of
from ssimpert.perturbation.results import FeatureBallResult, PerturbResult
from ssimpert.records import describe

Observer = Callable[[loop.AscentState], None]
# The step region never falls below this share of the first one: the linear model has nothing more to say there.
SMALLEST_REGION = 2.0**-6
# rho falls to no less than this share of the radius.
SMALLEST_RHO = 0.05


def perceptual_ball_constrained(
    model: nn.Module,
    image: Tensor,
    radius: float | Tensor,
    *,
    layers: Sequence[str] | None = None,
    normalization: Normalization = "unit-channel",
    step_norm: float = 0.25,
    steps: int = 20,
    margin: Margin | None = None,
    label: Tensor | None = None,
    stop_at_success: bool = True,
    method: str = "auto",
    settings: solvers.Settings | dict[str, object] | None = None,
    name: str | None = None,
    observer: Observer | None = None,
) -> FeatureBallResult:
    """Raise the margin within ``|phi(x') - phi(x)| <= radius``.

    Args:
        model: a :class:`~ssimpert.Classifier`, or a module on [0, 1] images that returns logits (B, K).
        image: x, (B, C, H, W) in [0, 1], float32 or float64.
        radius: positive, one number or one per image (B,), in the features' own unit. To match an L-BFGS solution:
            its ``feature_distance``, with the same ``layers`` and ``normalization="mse"``.
        layers, normalization: of the features; see :func:`~ssimpert.deep_features`.
        step_norm: R at first, an l2 norm in [0, 1] pixels (a root mean square of 0.0006 at 3x224x224). A small
            region is linear, and its steps are quick to solve; it grows where that holds.
        steps: most steps per image.
        margin: the goal; default :class:`~ssimpert.Untargeted`.
        label: the images' classes (B,); default: the model's own labels.
        stop_at_success: freeze an image once its goal is reached; ``False`` spends all steps on the largest margin.
        method, settings: of the solver, for each step; default ``eps_rel=0.03, max_iter=200``. ``history`` has the gap
            that every step was certified to.
        name: what tables call it.
        observer: called with the state after every step.

    Returns:
        One entry per image, failures included. ``violation`` is the excess of the true feature distance of the image
        as returned; every iterate kept to the radius, so only rounding to the images' dtype can exceed it.

    Raises:
        InputError: images, layers, radius or options that can't be used; raised before any step.
    """
    began = time.perf_counter()
    margin = margin if margin is not None else Untargeted()
    settings = solvers.Settings(eps_rel=0.03, max_iter=200) if settings is None else solvers.Settings.of(settings)
    check_image(image)
    for option, value in (("steps", steps), ("step_norm", step_norm)):
        bad = isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0
        if bad or (option == "steps" and not isinstance(value, int)):
            what = "an integer of at least 1" if option == "steps" else "a positive number"
            raise InputError(f"{option} must be {what}, got {value!r}")
    limit = _radii(radius, image)
    features = deep_features(model, layers, normalization)
    own = labels_of(model, image, label, margin)
    state = loop.start(model, image, own, margin, stop_at_success=stop_at_success)
    move = _Move(model, features, image, own, margin, limit, step_norm, method, settings)
    for reached in loop.ascend(model, state, own, margin, move, steps=steps, stop_at_success=stop_at_success):
        if observer is not None:
            observer(reached)
    result = measure(
        model,
        image,
        state,
        own,
        margin,
        rule=None,
        constraint=None,
        name=name or "feature ball",
        settings={
            "method": "perceptual_ball_constrained",
            "radius": limit.tolist(),
            "layers": list(features.layers),
            "normalization": normalization,
            "step_norm": step_norm,
            "steps": steps,
            "margin": describe(margin),
            "recentred": False,
            "stop_at_success": stop_at_success,
            "solver": {"method": method, "eps_rel": settings.eps_rel, "max_iter": settings.max_iter},
            "label": None if label is None else own.tolist(),
        },
        seconds=0.0,
    )
    require_sound_margins(result.margin_before)
    require_sound_gradients(result)
    return _with_distance(result, features, image, limit, time.perf_counter() - began)


def _radii(radius: float | Tensor, image: Tensor) -> Tensor:
    """(B,) float64."""
    try:
        values = torch.as_tensor(radius, dtype=torch.float64, device=image.device)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"radius must be a positive number or one per image, got {radius!r}") from None
    if values.ndim > 1 or (values.ndim == 1 and len(values) != len(image)):
        raise InputError(f"radius must be one number or one per image ({len(image)},), got {tuple(values.shape)}")
    if not bool((values.isfinite() & (values > 0)).all()):
        raise InputError(f"radius must be positive and finite, got {radius!r}")
    return values.expand(len(image)).clone()


class _Move:
    """The step of :func:`perceptual_ball_constrained`; a move for :func:`~ssimpert.perturbation.engines.loop.ascend`.

    Attributes:
        rho, region: rho and R, (B,) float64.
        limit: the radius, (B,) float64.
    """

    def __init__(
        self,
        model: nn.Module,
        features: Features,
        image: Tensor,
        label: Tensor,
        margin: Margin,
        limit: Tensor,
        step_norm: float,
        method: str,
        settings: solvers.Settings,
    ) -> None:
        self.model, self.features, self.label, self.margin = model, features, label, margin
        self.limit, self.method, self.settings = limit, method, settings
        self.original = image.to(torch.float64)
        self.jacobian = feature_jacobian(features, image)
        self.rho, self.region = limit.clone(), torch.full_like(limit, step_norm)
        self.least = SMALLEST_REGION * step_norm

    def __call__(self, state: loop.AscentState, moving: Tensor, gradient: Tensor) -> tuple[solvers.SolveResult, Tensor]:
        jacobian = self.jacobian.select(moving, len(self.limit))
        reference = self.original[moving]
        here = state.images[moving] - reference
        # The region is around the iterate, the ball around the original: R holds d_k and a step of the region.
        problem = solvers.LinearProblem(
            gradient,
            reference,
            [
                solvers.FeatureBall(self.rho[moving], jacobian),
                solvers.LpBall(2, norm(here) + self.region[moving]),
                PIXELS,
            ],
        )
        solution = solvers.solve(problem, method=self.method, settings=self.settings)
        towards = torch.as_tensor(solution.delta) - here
        unsolved = loop.stop_where_unsolved(state, moving, solution)
        towards[unsolved] = 0
        whole = self._distance((state.images[moving] + towards).clamp(0, 1), moving)
        length = loop.search(self.model, state, self.label, self.margin, moving, towards, self._allowed)
        stuck = length == 0
        self.region[moving] *= torch.where(stuck, 0.5, torch.where(length == 1, 2.0, 1.0))
        # Where the whole step went too far in the features, the next is asked for so much less.
        exceeds = (self.limit[moving] / whole.clamp_min(1e-300)).clamp(SMALLEST_RHO, 1)
        self.rho[moving] = torch.minimum(self.rho[moving], self.limit[moving] * exceeds)
        over = stuck & ~unsolved & (self.region[moving] < self.least)
        state.stop(moving[over], "no step, however short, raises the margin within the feature distance any more")
        return solution, length

    def _distance(self, images: Tensor, numbers: Tensor) -> Tensor:
        return feature_distance(self.features, self.original[numbers], images)

    def _allowed(self, images: Tensor, numbers: Tensor) -> Tensor:
        return self._distance(images, numbers) <= self.limit[numbers]


def _with_distance(
    result: PerturbResult, features: Features, image: Tensor, limit: Tensor, seconds: float
) -> FeatureBallResult:
    distance = feature_distance(features, image.double(), result.adversarial.double())
    measured = {entry.name: getattr(result, entry.name) for entry in fields(result)}
    measured |= {"seconds": seconds, "violation": (distance - limit).clamp_min(0).to(image.dtype)}
    return FeatureBallResult(
        **measured, layers=features.layers, radius=limit.to(image.dtype), feature_distance=distance.to(image.dtype)
    )
