"""The registered methods, and which problems each of them can solve.

A method is a function ``(problem, settings, warm_start) -> MethodOutput`` under a name::

    @solvers.register_method(
        "my_method", problems=(solvers.LinearProblem,), required={"WindowSSIM"}, optional={"Box"}
    )
    def my_method(problem, settings, warm_start=None):
        ...
        return solvers.MethodOutput(delta=delta, dual=dual, status=status, iterations=iterations)

``solve`` certifies whatever the method returns. A method never judges itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from solvers.errors import MethodError
from solvers.problem import Problem
from solvers.result import MethodOutput, SolveResult
from solvers.settings import Settings
from solvers.windows import Window


class Method(Protocol):
    """The contract of a method: a pure function of the problem and the settings."""

    def __call__(self, problem: Problem, settings: Settings, warm_start: SolveResult | None = None) -> MethodOutput:
        """Solve the problem, whose images have no defects, from an earlier result on a similar problem if given."""


@dataclass(frozen=True)
class MethodInfo:
    """A registered method and its capabilities.

    Attributes:
        name: as given to ``solve(method=...)``.
        run: the function that solves.
        problems: the problem types that the method takes.
        required: the sets that the problem must have, by class name.
        optional: the sets that the problem may have besides.
        any_of: the problem must have at least one of these sets; empty (default) for no such demand.
        windows: ``"tiles"`` for a method that needs windows which don't overlap, ``"any"`` (default) otherwise.
        exact: whether the method is a closed form or a root search to machine precision, not an iteration to a
            tolerance. Default False.
        certifies: ``"global bound"`` (default: the optimum is not above ``bound``, and ``rel_gap`` says how near), or
            ``"stationary"`` (no global bound: the last point is stationary, and every convex step was certified).
        warm_start: whether an earlier result speeds the method up. Default False.
        compiled: whether the iterations multiply with windows in compiled code. ``solve`` then compiles the kernels
            before the method starts (:mod:`solvers.rehearsal`). Default False.
        devices: the device types on which the method runs. Default: CPU and CUDA.
        accepts: a further test: returns why the method can't take a problem, or ``None``.
        available: returns why the method can't run here (a package is missing), or ``None``.
        too_large: returns why a problem is too large for the method, or ``None``. ``Settings(force=True)`` overrules.
        description: one line.
    """

    name: str
    run: Method
    problems: tuple[type[Problem], ...]
    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    any_of: frozenset[str] = frozenset()
    windows: str = "any"
    exact: bool = False
    certifies: str = "global bound"
    warm_start: bool = False
    compiled: bool = False
    devices: tuple[str, ...] = ("cpu", "cuda")
    accepts: Callable[[Problem], str | None] | None = None
    available: Callable[[], str | None] | None = None
    too_large: Callable[[Problem], str | None] | None = None
    description: str = ""

    def refusal(self, problem: Problem) -> str | None:
        """Why this method can't take the problem, in a phrase, or ``None`` where it can."""
        if not isinstance(problem, self.problems):
            names = " or ".join(kind.__name__ for kind in self.problems)
            return f"takes {names}, not {type(problem).__name__}"
        kinds = problem.kinds()
        missing = self.required - set(kinds)
        if missing:
            return f"needs {', '.join(sorted(missing))}"
        if self.any_of and not self.any_of & set(kinds):
            return f"needs one of {', '.join(sorted(self.any_of))}"
        foreign = set(kinds) - self.required - self.optional - self.any_of
        if foreign:
            return f"can't take {', '.join(sorted(foreign))}"
        if self.windows == "tiles":
            for constraint in problem.constraints:
                window = getattr(constraint, "window", None)
                if isinstance(window, Window) and not window.is_tiling:
                    return f"needs windows that don't overlap, got size {window.size} at stride {window.stride}"
        if problem.reference.device.type not in self.devices:
            return f"does not run on {problem.reference.device.type}"
        return self.accepts(problem) if self.accepts else None

    def unavailable(self) -> str | None:
        """Why this method can't run on this machine, or ``None``."""
        return self.available() if self.available else None

    def hindrance(self, problem: Problem, *, force: bool = False) -> str | None:
        """The first reason why this method can't solve ``problem`` here, or ``None``: a package is missing, the problem
        is outside the method's capabilities, or (unless ``force``) the problem is too large."""
        reason = self.unavailable()
        if reason is not None:
            return f"is not available: {reason}"
        reason = self.refusal(problem)
        if reason is None and not force and self.too_large is not None:
            reason = self.too_large(problem)
        return reason


_METHODS: dict[str, MethodInfo] = {}
# For a prefix ("cvxpy" in "cvxpy:osqp"), the function that makes the method of a name which is not registered itself.
_FAMILIES: dict[str, Callable[[str], MethodInfo]] = {}


def register_method(
    name: str,
    *,
    problems: Iterable[type[Problem]],
    required: Iterable[str] = (),
    optional: Iterable[str] = (),
    any_of: Iterable[str] = (),
    windows: str = "any",
    exact: bool = False,
    certifies: str = "global bound",
    warm_start: bool = False,
    compiled: bool = False,
    devices: Iterable[str] = ("cpu", "cuda"),
    accepts: Callable[[Problem], str | None] | None = None,
    available: Callable[[], str | None] | None = None,
    too_large: Callable[[Problem], str | None] | None = None,
    replace: bool = False,
) -> Callable[[Method], Method]:
    """Decorator that registers a method under ``name``; the first line of its docstring becomes the description.

    Args:
        name: as given to ``solve(method=...)``; not ``"auto"``.
        problems, required, optional, any_of, windows: which problems the method takes, see :class:`MethodInfo`.
        exact, certifies, warm_start, compiled, devices: what the method can do, see :class:`MethodInfo`.
        accepts, available, too_large: further tests of a problem and of the machine, see :class:`MethodInfo`.
        replace: whether the method may replace another one of that name. Default False.

    Raises:
        MethodError: a name that is taken, or capabilities that are no valid value.
    """
    if windows not in ("any", "tiles"):
        raise MethodError(f"method {name!r}: windows must be 'any' or 'tiles', got {windows!r}")
    if certifies not in ("global bound", "stationary"):
        raise MethodError(f"method {name!r}: certifies must be 'global bound' or 'stationary', got {certifies!r}")

    def decorate(function: Method) -> Method:
        if name == "auto" or (name in _METHODS and not replace):
            raise MethodError(f"a method named {name!r} is registered already; choose another or pass replace=True")
        _METHODS[name] = MethodInfo(
            name=name,
            run=function,
            problems=tuple(problems),
            required=frozenset(required),
            optional=frozenset(optional),
            any_of=frozenset(any_of),
            windows=windows,
            exact=exact,
            certifies=certifies,
            warm_start=warm_start,
            compiled=compiled,
            devices=tuple(devices),
            accepts=accepts,
            available=available,
            too_large=too_large,
            description=(function.__doc__ or "").strip().splitlines()[0] if function.__doc__ else "",
        )
        return function

    return decorate


def unregister_method(name: str) -> None:
    """Remove a method from the registry, for tests and notebooks; a name that is not registered is ignored."""
    _METHODS.pop(name, None)


def register_family(prefix: str, make: Callable[[str], MethodInfo]) -> None:
    """Let every name ``prefix:MEMBER`` stand for a method that ``make(MEMBER)`` makes when the name is looked up."""
    _FAMILIES[prefix] = make


def named_method(name: str) -> MethodInfo:
    """The method called ``name``: a registered method or a member of a family.

    Raises:
        MethodError: no method has this name; near names are listed.
    """
    if name in _METHODS:
        return _METHODS[name]
    prefix, _, member = name.partition(":")
    if prefix in _FAMILIES and member:
        return _FAMILIES[prefix](member)
    near = difflib.get_close_matches(name, _METHODS, n=3)
    hint = f"did you mean {', '.join(near)}?" if near else f"known: auto, {', '.join(_METHODS)}"
    raise MethodError(f"unknown method {name!r}; {hint}")


def methods() -> tuple[MethodInfo, ...]:
    """All registered methods with their capabilities, in order of registration."""
    return tuple(_METHODS.values())


def methods_for(problem: Problem, *, force: bool = False) -> tuple[MethodInfo, ...]:
    """The methods that can solve ``problem`` here; with ``force`` also those for which the problem is too large."""
    return tuple(info for info in methods() if info.hindrance(problem, force=force) is None)


def find_method(name: str, problem: Problem, *, force: bool = False) -> MethodInfo:
    """The method called ``name``, after checking that it can solve ``problem``.

    Raises:
        MethodError: an unknown name (near matches are listed), a package that is missing, or a problem outside the
            method's capabilities or, unless ``force``, too large for it (the methods that can are named).
    """
    info = named_method(name)
    reason = info.hindrance(problem, force=force)
    if reason is not None:
        able = [other.name for other in methods_for(problem)]
        hint = f"methods that can: {', '.join(able)}" if able else "no registered method can"
        raise MethodError(f"method {name!r} {reason}; {hint}")
    return info
