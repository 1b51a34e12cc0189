"""What must hold of a certificate, in exact arithmetic, on the random problem of one seed.

1. The point that a certificate or a result returns lies in every set. Means that are kept may miss 0 by the stated
   tolerance.
2. The objective is rounded the safe way: down for a maximum, up for a minimum.
3. The bound holds for every feasible point at hand: 0, the points that certificates and results returned, the same
   points freed of their means and stretched to the surface, random points scaled inside, and the optimum where it has a
   closed form.
4. No number is NaN, and a bound is finite unless it is too large for a float.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import torch

import solvers
from solvers.registry import methods_for
from tests.solvers.exact_arithmetic.feasible_points import scaled_into, stretched, without_kept_means
from tests.solvers.exact_arithmetic.objectives import exact_optimum, linear_objective, projection_objective
from tests.solvers.exact_arithmetic.random_duals import random_dual
from tests.solvers.exact_arithmetic.random_points import random_points
from tests.solvers.exact_arithmetic.random_problems import RandomProblem, random_problem
from tests.solvers.exact_arithmetic.rational_arrays import RationalArray, exact, ratio, zeros
from tests.solvers.exact_arithmetic.sets import (
    PRODUCT_ROUNDING,
    ExactSet,
    contains,
    exact_sets,
    jacobian_matrix,
    keeps_means,
)

# Kinds of failure.
WRONG_BOUND = "wrong bound"
INFEASIBLE_POINT = "infeasible point"
UNSAFE_OBJECTIVE = "objective rounded the wrong way"
NOT_A_NUMBER = "NaN or needless infinity"
RAISED = "error raised"
FAILURE_KINDS = (WRONG_BOUND, INFEASIBLE_POINT, UNSAFE_OBJECTIVE, NOT_A_NUMBER, RAISED)

# Certificates of each problem, with a point and a dual of their own.
CERTIFICATES = 5
# To repair a point takes long where windows overlap: of these certificates' points only so many are not 0.
REPAIRS_OF_OVERLAPPING_WINDOWS = 1
# By how much coarser single precision is: how many tolerances its points may miss means that are kept.
SINGLE_PRECISION_TOLERANCES = 2**29
# Failures beyond this excess are more than rounding.
ROUNDING = 1e-9
LARGEST_FLOAT = Fraction(float(np.finfo(np.float64).max))


@dataclass(frozen=True)
class Failure:
    """One promise that did not hold.

    Attributes:
        seed: of the problem.
        image: position in the batch.
        kind: one of FAILURE_KINDS.
        sets: the names of the problem's sets.
        what: details.
        excess: by how much: for bounds a share of the best objective, for objectives a share of the terms' sizes, for
            points in the set's unit. NaN where there is no number.
    """

    seed: int
    image: int
    kind: str
    sets: tuple[str, ...]
    what: str
    excess: float

    @property
    def is_gross(self) -> bool:
        """Whether the failure is larger than rounding of a few float64 operations."""
        return not self.excess <= ROUNDING


@dataclass
class Outcome:
    """What was checked of one seed's problem.

    Attributes:
        seed: the seed.
        sets: the names of the problem's sets; empty where the library refused the problem.
        images, bounds, points: how many were checked.
        refusal: why the library refused the problem, or empty.
        failures: what did not hold.
    """

    seed: int
    sets: tuple[str, ...] = ()
    images: int = 0
    bounds: int = 0
    points: int = 0
    refusal: str = ""
    failures: list[Failure] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    """What a certificate or a result says of a batch.

    Attributes:
        source: where the answer comes from, for reports.
        delta: (B, C, H, W).
        objective, bound: (B,) float64.
        others: further numbers, (B,) each, which must not be NaN.
        product_sizes: ``|J|'|y|`` for the dual blocks y of feature balls, (B, C, H, W): the terms' sizes in the user's
            own products, whose rounding a certificate cannot know. 0 for all other sets.
    """

    source: str
    delta: np.ndarray
    objective: np.ndarray
    bound: np.ndarray
    others: tuple[np.ndarray, ...]
    product_sizes: np.ndarray


def check_seed(seed: int) -> Outcome:
    """Draw the problem of ``seed`` and check it."""
    outcome = Outcome(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            drawn = random_problem(seed)
        except solvers.ProblemError as error:
            outcome.refusal = str(error)
            return outcome
        outcome.sets = tuple(sorted(set_name(constraint) for constraint in drawn.problem.constraints))
        check_problem(drawn, outcome)
    return outcome


def set_name(constraint: solvers.Constraint) -> str:
    """The set's name in reports."""
    if isinstance(constraint, solvers.LpBall):
        return f"LpBall {constraint.p:g}"
    window = getattr(constraint, "window", None)
    name = constraint.kind
    if keeps_means(constraint) and window is not None:
        name += " preserve"
    elif getattr(constraint, "luminance", None) == "split":
        name += " split"
    if window is not None:
        name += " tiles" if window.is_tiling else " overlap"
    return name


def check_problem(drawn: RandomProblem, outcome: Outcome) -> None:
    """Check the promises on a drawn problem, and note what fails in ``outcome``."""
    rng = np.random.default_rng([drawn.seed, 2])
    answers, results = [], []
    for method in _methods(rng, drawn):
        try:
            result = solvers.solve(drawn.problem, method, _settings(rng))
        except Exception as error:
            outcome.failures.append(_raised(outcome, f"solve with {method}", error))
            continue
        results.append(result)
        answers.append(_answer_of(f"solve with {result.method}", result, drawn, result.dual))
    solution = results[-1] if results else None
    known_points = None if solution is None else np.asarray(solution.delta, dtype=np.float64)
    repairs = REPAIRS_OF_OVERLAPPING_WINDOWS if _windows_overlap(drawn) else CERTIFICATES
    for number in range(CERTIFICATES):
        points = random_points(rng, drawn, known_points) if number < repairs else np.zeros(drawn.shape)
        blocks = None if rng.random() < 0.05 else random_dual(rng, drawn, None if solution is None else solution.dual)
        try:
            certificate = solvers.certify(drawn.problem, torch.from_numpy(points), blocks)
        except Exception as error:
            outcome.failures.append(_raised(outcome, f"certificate {number}", error))
            continue
        answers.append(_answer_of(f"certificate {number}", certificate, drawn, blocks))
    defects = drawn.problem.defects
    for image in range(drawn.shape[0]):
        if image not in defects:
            outcome.images += 1
            _ImageCheck(drawn, outcome, image, rng).check(answers)


def _windows_overlap(drawn: RandomProblem) -> bool:
    windows = [getattr(constraint, "window", None) for constraint in drawn.problem.constraints]
    return any(window is not None and not window.is_tiling for window in windows)


def _raised(outcome: Outcome, doing: str, error: Exception) -> Failure:
    return Failure(outcome.seed, -1, RAISED, outcome.sets, f"{doing}: {type(error).__name__}: {error}", math.nan)


def _methods(rng: np.random.Generator, drawn: RandomProblem) -> Iterator[str]:
    """Which methods solve the problem: often auto's choice, sometimes another one, sometimes none."""
    exact_names, other_names, slow_names = [], [], []
    for info in methods_for(drawn.problem):
        slow = info.name.startswith(("cvxpy", "mean_tiles", "product_tiles"))
        (slow_names if slow else exact_names if info.exact else other_names).append(info.name)
    if exact_names and (exact_names[0] != "tiles" or rng.random() < 0.3):
        yield exact_names[0]
    if other_names and rng.random() < (0.1 if exact_names else 0.4):
        yield str(rng.choice(other_names))
    # They solve one image after another.
    if slow_names and drawn.shape[0] == 1 and rng.random() < 0.5:
        yield str(rng.choice(slow_names))


def _settings(rng: np.random.Generator) -> solvers.Settings:
    return solvers.Settings(eps_rel=10.0 ** rng.uniform(-9, -2), max_iter=int(rng.choice([10, 50])), check_interval=10)


def _answer_of(source: str, answer: Any, drawn: RandomProblem, blocks: Sequence[Any] | None) -> Answer:
    def array(value: Any) -> np.ndarray:
        return np.asarray(torch.as_tensor(value).numpy())

    others = tuple(array(getattr(answer, name)) for name in ("rel_gap", "max_violation"))
    delta, objective, bound = (array(getattr(answer, name)) for name in ("delta", "objective", "bound"))
    return Answer(source, delta, objective, bound, others, _product_sizes(drawn, blocks))


def _product_sizes(drawn: RandomProblem, blocks: Sequence[Any] | None) -> np.ndarray:
    """See :class:`Answer`. A block that is not finite counts as none."""
    sizes = np.zeros(drawn.shape)
    for constraint, block in zip(drawn.problem.constraints, blocks or (), strict=False):
        if isinstance(constraint, solvers.FeatureBall) and block is not None:
            multipliers = np.abs(torch.as_tensor(block).double().numpy())
            finite = np.where(np.isfinite(multipliers).all(axis=1, keepdims=True), multipliers, 0)
            sizes += (finite @ np.abs(jacobian_matrix(constraint))).reshape(drawn.shape)
    return np.where(np.isfinite(sizes), sizes, 0)


class _ImageCheck:
    """The checks of one image: its exact sets, and the best objective of a feasible point.

    Returned points must lie in ``sets``, or in ``single_precision_sets``. Bounds must cover ``covered_sets``, and
    ``strict_sets``, in which kept means vanish.
    """

    def __init__(self, drawn: RandomProblem, outcome: Outcome, image: int, rng: np.random.Generator) -> None:
        self.drawn, self.outcome, self.image, self.rng = drawn, outcome, image, rng
        self.constraints = drawn.problem.constraints
        self.vector = exact(drawn.vector[image])
        self.sets: list[ExactSet] = exact_sets(self.constraints, drawn.reference, image)
        self.single_precision_sets = self.covered_sets = self.strict_sets = self.sets
        if any(isinstance(constraint, solvers.FeatureBall) for constraint in self.constraints):
            self.covered_sets = self.strict_sets = exact_sets(
                self.constraints, drawn.reference, image, products_are_rounded=False
            )
        if any(keeps_means(constraint) for constraint in self.constraints):
            self.strict_sets = exact_sets(
                self.constraints, drawn.reference, image, mean_tolerances=0, products_are_rounded=False
            )
            self.single_precision_sets = exact_sets(
                self.constraints, drawn.reference, image, mean_tolerances=SINGLE_PRECISION_TOLERANCES
            )
        self.best: Fraction | None = None
        self.best_source = ""
        self.best_point: RationalArray | None = None

    def check(self, answers: list[Answer]) -> None:
        """All promises of all answers."""
        nothing = zeros(self.vector.numerators.shape)
        self.consider("0", nothing, self.objective(nothing))
        for answer in answers:
            self.check_numbers(answer)
            self.check_point(answer)
        self.add_other_points(answers)
        optimum = exact_optimum(self.drawn.problem, self.drawn.reference, self.drawn.vector, self.image)
        if optimum is not None and self.is_better(optimum):
            self.best, self.best_source, self.best_point = optimum, "the optimum", None
        for answer in answers:
            self.check_bound(answer)

    # -- single promises -----------------------------------------------------------------------------------

    def check_numbers(self, answer: Answer) -> None:
        """No NaN anywhere."""
        values = [answer.objective[self.image], answer.bound[self.image], *(v[self.image] for v in answer.others)]
        if any(math.isnan(value) for value in values) or not np.isfinite(answer.delta[self.image]).all():
            self.fail(NOT_A_NUMBER, f"{answer.source}: {values}", math.nan)

    def check_point(self, answer: Answer) -> None:
        """The point is feasible, and its objective is rounded the safe way."""
        point = answer.delta[self.image]
        if not np.isfinite(point).all():
            return
        self.outcome.points += 1
        delta = exact(point)
        sets = self.single_precision_sets if point.dtype == np.float32 else self.sets
        for constraint, member in zip(self.constraints, sets, strict=True):
            violation = member.violation(delta)
            if violation is not None:
                what = f"{answer.source}: {violation.what} of {set_name(constraint)}"
                self.fail(INFEASIBLE_POINT, what, violation.excess)
        value = self.objective(delta)
        stated = float(answer.objective[self.image])
        if math.isinf(stated):
            # An objective too large for a float is rounded the safe way as infinity only for a minimum.
            safe = stated < 0 if self.drawn.linear else stated > 0
            if not safe:
                self.fail(UNSAFE_OBJECTIVE, f"{answer.source}: {stated}", math.inf)
        elif not math.isnan(stated):
            excess = Fraction(stated) - value if self.drawn.linear else value - Fraction(stated)
            if excess > 0:
                self.fail(UNSAFE_OBJECTIVE, answer.source, relative(excess, self.size_of_objective(delta)))
        if contains(self.covered_sets, delta):
            self.consider(answer.source, delta, value)

    def check_bound(self, answer: Answer) -> None:
        """The bound holds for every feasible point at hand."""
        bound = float(answer.bound[self.image])
        assert self.best is not None
        self.outcome.bounds += 1
        if math.isnan(bound):
            return
        if math.isinf(bound):
            self.check_infinite_bound(answer.source, bound)
            return
        missing = self.best - Fraction(bound) if self.drawn.linear else Fraction(bound) - self.best
        if missing > self.rounding_of_products(answer):
            best = ratio(*self.best.as_integer_ratio())
            what = f"{answer.source}: bound {bound!r} against {best!r} of {self.best_source}"
            self.fail(WRONG_BOUND, what, relative(missing, self.best))

    def rounding_of_products(self, answer: Answer) -> Fraction:
        """How far rounding in the products of feature balls may have moved the bound, for the best point."""
        sizes = answer.product_sizes[self.image]
        if self.best_point is None or not sizes.any():
            return Fraction(0)
        point = RationalArray(np.abs(self.best_point.numerators), self.best_point.denominator)
        return PRODUCT_ROUNDING * linear_objective(exact(sizes), point)

    def check_infinite_bound(self, source: str, bound: float) -> None:
        """An infinite bound says nothing; it is allowed only where every finite one could be too small."""
        if not self.drawn.linear:
            if bound > 0:
                self.fail(WRONG_BOUND, f"{source}: infinite bound", math.inf)
            else:
                self.fail(NOT_A_NUMBER, f"{source}: bound -inf of a projection", math.inf)
            return
        if bound < 0:
            self.fail(WRONG_BOUND, f"{source}: bound -inf", math.inf)
            return
        # No set here lets a pixel move by more than this many pixel ranges, up to tiny thresholds.
        size = Fraction(int(np.abs(self.vector.numerators).sum()), self.vector.denominator)
        if size * Fraction(self.drawn.pixel_range) * 10**6 < LARGEST_FLOAT:
            self.fail(NOT_A_NUMBER, f"{source}: infinite bound", math.inf)

    # -- feasible points -----------------------------------------------------------------------------------

    def add_other_points(self, answers: list[Answer]) -> None:
        """Further feasible points near the best one, and a random one."""
        candidates = [answer for answer in answers if np.isfinite(answer.delta[self.image]).all()]
        if candidates:
            values = [self.objective(exact(answer.delta[self.image])) for answer in candidates]
            choose = max if self.drawn.linear else min
            nearest = candidates[values.index(choose(values))]
            self.allow(f"{nearest.source}, means removed and stretched", exact(nearest.delta[self.image]), near=True)
        if self.rng.random() < 0.3:
            noise = self.rng.normal(size=self.vector.numerators.shape) * self.drawn.pixel_range
            self.allow("a random point", exact(noise))

    def allow(self, source: str, delta: RationalArray, *, near: bool = False) -> None:
        """Consider the point, moved into the sets; ``near`` says that it is about on the surface."""
        free = without_kept_means(self.constraints, self.drawn.reference, self.image, delta)
        if free is None:
            return
        if near and contains(self.strict_sets, free):
            inside = stretched(self.strict_sets, free)
        elif near:
            # Removing means moves a point by a few roundings: a little shorter, it is inside.
            shorter = free.scaled(1 - Fraction(1, 2**44))
            inside = shorter if contains(self.strict_sets, shorter) else scaled_into(self.strict_sets, free)
        else:
            inside = scaled_into(self.strict_sets, free)
        self.consider(source, inside, self.objective(inside))

    def consider(self, source: str, delta: RationalArray, value: Fraction) -> None:
        """Keep a feasible point's objective if it is the best."""
        if self.is_better(value):
            self.best, self.best_source, self.best_point = value, source, delta

    def is_better(self, value: Fraction) -> bool:
        return self.best is None or (value > self.best if self.drawn.linear else value < self.best)

    def objective(self, delta: RationalArray) -> Fraction:
        return (linear_objective if self.drawn.linear else projection_objective)(self.vector, delta)

    def size_of_objective(self, delta: RationalArray) -> Fraction:
        """The sum of the magnitudes of the objective's terms."""
        if not self.drawn.linear:
            return self.objective(delta)
        sizes = (RationalArray(np.abs(array.numerators), array.denominator) for array in (self.vector, delta))
        return linear_objective(*sizes)

    def fail(self, kind: str, what: str, excess: float) -> None:
        failure = Failure(self.outcome.seed, self.image, kind, self.outcome.sets, what, excess)
        self.outcome.failures.append(failure)


def relative(excess: Fraction, size: Fraction) -> float:
    """``excess`` as a share of ``size``; infinite where that is 0."""
    if size == 0:
        return math.inf
    share = excess / abs(size)
    return ratio(share.numerator, share.denominator)
