"""``[[formulation]]``: a constraint set, or a perceptual ball, with a grid of levels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, ClassVar, cast

import solvers
from solvers.constraints import Constraint
from solvers.registry import named_method
from solvers.validation import as_list
from ssimpert.errors import InputError
from ssimpert.formulations.constraint_sets import build_constraint
from ssimpert.formulations.feature_balls import FeatureBallSet, PerceptualBall, constrained_ball, penalised_ball
from ssimpert.formulations.names import BallMethod, ConstraintName, Formulation, MarginTermName, NormalizationName
from ssimpert.formulations.options import (
    LEVEL_OPTION,
    OPTIONS,
    OptionFault,
    default_steps,
    formulation_named,
    is_recentred,
    search_tolerance,
    solver_defaults,
)
from ssimpert.linearization import LeastLikely, Margin, Targeted, Untargeted
from ssimpert.linearization.margins import Criterion
from ssimpert.perturbation.budget_search.attempt import check_level_options
from ssimpert.perturbation.engines.catalog import ENGINES_AROUND_ORIGINAL, Engine, check_projectable
from ssimpert.perturbation.shrinking import shrink_option
from ssimpert.study.sections.formulation_keys import (
    BUDGETS,
    ENGINES,
    FORMULATIONS,
    LEVEL_KEYS,
    MARGINS,
    SEARCH_CANDIDATES,
    SEARCH_ROUNDS,
    USE_KEYS,
    WINDOW_KEYS,
    keys_taken,
    window_key,
)
from ssimpert.study.sections.section import (
    OptionError,
    Section,
    at_key,
    read_choice,
    read_class,
    read_name,
    read_names,
    read_number,
    read_number_or_word,
    read_numbers,
    unknown_key,
)
from ssimpert.validation import check_count, check_flag, check_share


@dataclass(frozen=True, kw_only=True)
class FormulationSection(Section):
    """A constraint set, or a perceptual ball, and how it is used. Keys that are not given have the defaults of the
    command line.

    The level is the value of ``distance`` (global-ssim), ``threshold`` (window-ssim, product-ssim, mean-ssim),
    ``radius`` (l2, linf, l1, feature-ball, perceptual-ball-constrained) or ``gamma`` (perceptual-ball): a number, or a
    list of numbers, each of which is a column of the study.

    Attributes:
        name: what tables call the formulation.
        constraint: the set, or ``"perceptual-ball"`` or ``"perceptual-ball-constrained"``.
        distance, threshold, radius, gamma: the levels; one of them belongs to each constraint.
        window: of window-ssim, product-ssim and mean-ssim: ``size`` and ``stride`` in pixels, ``border`` ("full" or
            "valid"), ``sigma`` (a number, or "none" for uniform weights).
        luminance: of window-ssim: a number, "split" or "preserve"; of mean-ssim: a number, "preserve" or "none".
        layers: the layers of a ball of features; "none" for no layer (perceptual-ball only).
        normalization: of the features: "unit-channel", "mse" or "none".
        l2_radius: of the l2 ball around a feature-ball; a number or "none".
        pixel_weight, wanted_margin, margin_term, lower_gamma: of perceptual-ball.
        step_norm: of perceptual-ball-constrained.
        engine: "projected_gradient", "sequential_convex", "frank_wolfe" or "recentred". In a study a list of engines
            stands for as many formulations, called ``"NAME, ENGINE"``.
        recentred: True is short for ``engine = "recentred"``.
        faithful: do exactly what the released code does: of global-ssim with the re-centred engine, and of
            perceptual-ball.
        steps: the most steps for each image; with ``budget = "minimal"`` at each level.
        budget: "fixed" (default): the largest margin, or the first success, at the level; "minimal": the least level
            that changes the decision, found for each image from the level given.
        rounds, tolerance, candidates: of the search for the least level, as for :func:`ssimpert.minimal_budget`.
        margin: "untargeted" (default) or "least-likely".
        margin_by: how many logits the margin must exceed; default 0.
        target: the class to aim at, by its name or number.
        stop_at_success: whether an image stops when its goal is reached; default True.
        shrink: whether a success is drawn back to the smallest share that still succeeds; default as for
            :func:`ssimpert.perturb`.
        quantize: whether the result is moved onto 8-bit pixels; default False.
        method, eps_rel, max_iter, any_size: the solver of each convex step, its tolerance, its most iterations, and
            whether a CVXPY method may try a problem beyond its size limit.
    """

    section: ClassVar[str] = "formulation"

    name: str
    constraint: str
    distance: float | tuple[float, ...] | None = None
    threshold: float | tuple[float, ...] | None = None
    radius: float | tuple[float, ...] | None = None
    gamma: float | tuple[float, ...] | None = None
    window: Mapping[str, Any] | None = None
    luminance: float | str | None = None
    layers: tuple[str, ...] | str | None = None
    normalization: str | None = None
    l2_radius: float | str | None = None
    pixel_weight: float | None = None
    wanted_margin: float | None = None
    margin_term: str | None = None
    lower_gamma: bool | None = None
    step_norm: float | None = None
    engine: str | None = None
    recentred: bool | None = None
    faithful: bool = False
    steps: int | None = None
    budget: str = "fixed"
    rounds: int | None = None
    tolerance: float | None = None
    candidates: int | None = None
    margin: str = "untargeted"
    margin_by: float = 0.0
    target: int | str | None = None
    stop_at_success: bool | None = None
    shrink: bool | None = None
    quantize: bool = False
    method: str = "auto"
    eps_rel: float | None = None
    max_iter: int | None = None
    any_size: bool = False

    def __post_init__(self) -> None:
        read_name("name", self.name)
        read_choice("constraint", self.constraint, FORMULATIONS)
        read_choice("budget", self.budget, BUDGETS)
        self._check_keys()
        self._read_options()
        self._read_uses()
        self._check_together()

    @classmethod
    def variants(cls, keys: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """A formulation for each engine, where ``engine`` is a list. An empty list is left as it is, to be refused."""
        engines = as_list(keys.get("engine"))
        if not engines:
            return (keys,)
        return tuple({**keys, "engine": engine, "name": f"{keys.get('name')}, {engine}"} for engine in engines)

    @property
    def formulation(self) -> Formulation:
        """The constraint's name as one of an enumeration."""
        return formulation_named(self.constraint)

    @property
    def level_unit(self) -> str:
        """What the level is: the key that gives it; "found" where it is searched for."""
        return "found" if self.is_minimal else LEVEL_OPTION[self.formulation]

    @property
    def levels(self) -> tuple[float, ...]:
        """The levels that are given, or the default one."""
        key = LEVEL_OPTION[self.formulation]
        given = getattr(self, key)
        return (float(OPTIONS[self.formulation][key]),) if given is None else cast("tuple[float, ...]", given)

    @property
    def grid_levels(self) -> tuple[float | None, ...]:
        """The levels of the formulation's columns; one ``None`` where the level is searched for."""
        return (None,) if self.is_minimal else self.levels

    @property
    def is_minimal(self) -> bool:
        """Whether the least level is searched for."""
        return self.budget == "minimal"

    @property
    def engine_name(self) -> str:
        """The engine, or its default; empty for the perceptual balls, which take none."""
        formulation = self.formulation
        if isinstance(formulation, BallMethod):
            return ""
        if self.engine is not None:
            return self.engine
        if self.is_minimal:
            return "projected_gradient"
        is_default = self.recentred is None and is_recentred(formulation)
        return "recentred" if self.recentred or is_default else "projected_gradient"

    def values(self, level: float) -> dict[str, Any]:
        """One value for every option of the formulation (:data:`ssimpert.formulations.options.OPTIONS`).

        ``level`` takes the place of the levels. "none" is ``None``.
        """
        values = dict(OPTIONS[self.formulation])
        for key in values:
            given = (self.window or {}).get(window_key(key)) if key in WINDOW_KEYS.values() else getattr(self, key)
            if given is not None and key not in LEVEL_KEYS:
                values[key] = None if given == "none" and key != "normalization" else given
        if self.layers == ():
            values["layers"] = ()
        return values | {LEVEL_OPTION[self.formulation]: level}

    def used_steps(self) -> int:
        """The most steps."""
        return self.steps or default_steps(self.formulation, searches=self.is_minimal)

    def deciding_options(self, level: float | None) -> dict[str, Any]:
        """What decides the perturbations at a level (``None`` where the level is searched for), with all defaults.

        The formulation's name decides nothing.
        """
        formulation, settings = self.formulation, self.solver_settings()
        options: dict[str, Any] = {
            "constraint": self.constraint,
            **self.values(self.levels[0] if level is None else level),
            "budget": self.budget,
            "steps": self.used_steps(),
            "target": self.target,
            "quantize": self.quantize,
        }
        if formulation is not BallMethod.PENALISED:
            options |= {"eps_rel": settings.eps_rel, "max_iter": settings.max_iter, "any_size": self.any_size}
        if isinstance(formulation, ConstraintName):
            options |= {key: getattr(self, key) for key in ("method", "margin", "margin_by")}
            options["engine"] = self.engine_name
        if self.is_minimal:
            return options | self.search_options()
        options["faithful"] = self.faithful
        if formulation is BallMethod.PENALISED:
            lowers = not self.faithful if self.lower_gamma is None else self.lower_gamma
            return options | {"lower_gamma": lowers}
        return options | self.stopping_options()

    def search_options(self) -> dict[str, Any]:
        """The options of the search for the least level, with their defaults; ``candidates`` for sets alone."""
        options: dict[str, Any] = {
            "rounds": self.rounds or SEARCH_ROUNDS,
            "tolerance": search_tolerance(self.formulation) if self.tolerance is None else self.tolerance,
        }
        if isinstance(self.formulation, ConstraintName):
            options["candidates"] = self.candidates or SEARCH_CANDIDATES
        return options

    def stopping_options(self) -> dict[str, Any]:
        """When an image stops, and whether its success is drawn back, with the defaults of the engine."""
        stops = self.stop_at_success is not False
        is_published = self.engine_name == "recentred"
        return {
            "stop_at_success": stops,
            "shrink": shrink_option(self.shrink, stop_at_success=stops, is_published=is_published),
        }

    def solver_settings(self) -> solvers.Settings:
        """The settings of the solver of each convex step."""
        eps_rel, max_iter = solver_defaults(self.formulation, searches=self.is_minimal)
        return solvers.Settings(
            eps_rel=eps_rel if self.eps_rel is None else self.eps_rel,
            max_iter=max_iter if self.max_iter is None else self.max_iter,
            force=self.any_size,
        )

    def constraint_at(self, level: float) -> Constraint | FeatureBallSet | PerceptualBall:
        """The set, or the perceptual ball, at a level.

        Raises:
            OptionFault, ProblemError: a value out of range, or options that contradict one another.
        """
        values, formulation = self.values(level), self.formulation
        if formulation is BallMethod.PENALISED:
            ball = penalised_ball(
                values, wanted_given=self.wanted_margin is not None, faithful=self.faithful, target=self.target
            )
            if self.is_minimal and ball.gamma == 0:
                raise OptionFault("gamma", lambda name: f"{name('gamma')} 0 leaves the search no weight to begin with")
            return ball
        if formulation is BallMethod.CONSTRAINED:
            return constrained_ball(
                values,
                self.solver_settings(),
                stop_at_success=self.stop_at_success is not False,
                shrink=False if self.is_minimal else self.stopping_options()["shrink"],
                target=self.target,
            )
        return build_constraint(formulation, values)

    def goal(self) -> Margin:
        """The margin that is raised."""
        if self.target is not None:
            margin: Criterion = Targeted(self.target)
        else:
            margin = LeastLikely() if self.margin == "least-likely" else Untargeted()
        return margin if self.margin_by == 0 else margin.by(self.margin_by)

    def _check_keys(self) -> None:
        """Raise :class:`OptionError` for a key that this constraint, or this budget, does not take."""
        taken = keys_taken(self.formulation, self.budget)
        for entry in fields(self):
            value = getattr(self, entry.name)
            is_default = value is entry.default or (isinstance(value, bool | float | str) and value == entry.default)
            if entry.name in taken or is_default:
                continue
            purpose = f"{self.constraint} with budget {self.budget!r}" if entry.name in USE_KEYS else self.constraint
            raise unknown_key(entry.name, purpose, taken)

    def _check_together(self) -> None:
        """Raise :class:`OptionError` where a level, or options together, can't be used; no model is needed."""
        with _at_fault("eps_rel"):
            self.solver_settings()
        for level in self.levels:
            with _at_fault(LEVEL_OPTION[self.formulation]):
                constraint = self.constraint_at(level)
            if isinstance(constraint, Constraint):
                with _at_fault("engine"):
                    check_projectable(constraint, self.engine_name, self.method)
                    if self.is_minimal:
                        check_level_options(constraint, self.engine_name, self.method)
        with _at_fault("shrink"):
            self.stopping_options()
        if self.faithful and isinstance(self.formulation, ConstraintName):
            self._check_released_method()

    def _check_released_method(self) -> None:
        if self.formulation is not ConstraintName.GLOBAL_SSIM:
            raise OptionError(
                f"faithful is for global-ssim and perceptual-ball, got constraint {self.constraint!r}", key="faithful"
            )
        if self.engine_name != "recentred":
            raise OptionError(
                f"faithful is for the engine 'recentred', got {self.engine_name!r}; drop one of them", key="faithful"
            )
        if self.shrink:
            raise OptionError(
                "the released method ends where its last step ends; drop faithful or shrink", key="shrink"
            )

    def _read_options(self) -> None:
        """Bring the options that describe the set into one form."""
        for key in LEVEL_KEYS:
            if getattr(self, key) is not None:
                self._set(key, read_numbers(key, getattr(self, key)))
        if self.is_minimal and len(self.levels) > 1:
            key = LEVEL_OPTION[self.formulation]
            raise OptionError(
                f"budget 'minimal' looks for the level itself; give one {key} to begin with, got {len(self.levels)}",
                key=key,
            )
        if self.window is not None:
            self._set("window", _read_window(self.window))
        for key in ("pixel_weight", "wanted_margin", "step_norm"):
            if getattr(self, key) is not None:
                self._set(key, read_number(key, getattr(self, key)))
        if self.l2_radius is not None:
            self._set("l2_radius", read_number_or_word("l2_radius", self.l2_radius, ("none",)))
        if self.luminance is not None:
            words = ("split", "preserve") if self.constraint == ConstraintName.WINDOW_SSIM else ("preserve", "none")
            self._set("luminance", read_number_or_word("luminance", self.luminance, words))
        if self.layers is not None:
            has_none = isinstance(self.layers, str) and self.layers == "none"
            self._set("layers", () if has_none else read_names("layers", self.layers))
        if self.normalization is not None:
            read_choice("normalization", self.normalization, tuple(NormalizationName))
        if self.margin_term is not None:
            read_choice("margin_term", self.margin_term, tuple(MarginTermName))

    def _read_uses(self) -> None:
        """Bring the options about engine, search, goal and solver into one form."""
        if self.engine is not None:
            read_choice("engine", self.engine, tuple(ENGINES_AROUND_ORIGINAL) if self.is_minimal else ENGINES)
        for key in ("lower_gamma", "recentred", "faithful", "stop_at_success", "shrink", "quantize", "any_size"):
            value = getattr(self, key)
            if value is not None:
                with at_key(key):
                    self._set(key, check_flag(key, value))
        if self.engine is not None and self.recentred is not None and self.recentred != (self.engine == "recentred"):
            raise OptionError(
                f"recentred = {str(self.recentred).lower()} contradicts engine = {self.engine!r}; drop one of them",
                key="recentred",
            )
        for key in ("steps", "rounds", "candidates", "max_iter"):
            if getattr(self, key) is not None:
                with at_key(key):
                    self._set(key, check_count(key, getattr(self, key)))
        if self.tolerance is not None:
            with at_key("tolerance"):
                self._set("tolerance", check_share("tolerance", self.tolerance))
        read_choice("margin", self.margin, MARGINS)
        self._set("margin_by", read_number("margin_by", self.margin_by))
        if self.target is not None:
            self._set("target", read_class("target", self.target))
            if self.margin != "untargeted":
                raise OptionError(f"target contradicts margin = {self.margin!r}; drop one of them", key="target")
        if self.eps_rel is not None:
            self._set("eps_rel", read_number("eps_rel", self.eps_rel))
        with at_key("method"):
            if self.method != "auto":
                named_method(read_name("method", self.method))

    def _set(self, key: str, value: Any) -> None:
        object.__setattr__(self, key, value)

    @property
    def engine_for_perturb(self) -> Engine:
        """The engine as :func:`ssimpert.perturb` takes it."""
        return cast("Engine", self.engine_name)


def _read_window(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise OptionError(f"window must be a table such as {{ size = 7, stride = 1 }}, got {value!r}", key="window")
    window: dict[str, Any] = {}
    for key, entry in value.items():
        if key not in WINDOW_KEYS:
            raise unknown_key(str(key), "window", tuple(WINDOW_KEYS), at="window")
        if key == "border":
            window[key] = read_choice("window", entry, ("full", "valid"))
        elif key == "sigma":
            window[key] = read_number_or_word("window", entry, ("none",))
        else:
            with at_key("window"):
                window[key] = check_count(f"window {key}", entry)
    return window


@contextmanager
def _at_fault(key: str) -> Iterator[None]:
    """Let errors within this block say which key is at fault: ``key``, unless the error knows its option."""
    try:
        yield
    except OptionFault as fault:
        raise OptionError(str(fault), key=fault.option) from fault
    except (InputError, solvers.ProblemError, solvers.MethodError) as error:
        raise OptionError(str(error), key=key) from error
