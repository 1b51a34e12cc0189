"""Public functions document their parameters, and no function has more parameters than a reader can hold in mind.

The source is parsed, not imported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("solvers", "ssimpert")
DOCUMENTED_FROM = 5
"""With so many parameters or more, a public function needs an ``Args:`` section."""

MAX_PARAMETERS = 8

# Decorators of code that numba or Triton compiles: its parameters are arrays and pointers, not a reader's concern.
COMPILED = re.compile(r"^(compiled|numba\.|triton\.)")

# Functions that may have more parameters: users call them, with most of the options by keyword and with defaults.
ENTRY_POINTS = {
    "solvers/conformance/problems/known_optimum.py:known_optimum": "one keyword for each choice in making a problem",
    "solvers/registry.py:register_method": "one keyword for each capability of a method",
    "ssimpert/analysis/attributions/gradients.py:smooth_grad": "an attribution with its options",
    "ssimpert/analysis/attributions/rise.py:rise": "an attribution with its options",
    "ssimpert/analysis/comparison/compare.py:compare": "the whole analysis in one call",
    "ssimpert/analysis/map_agreement/shift_test.py:shift_null": "a test with its options",
    "ssimpert/analysis/statistics/summaries.py:paired_differences": "statistics with their options",
    "ssimpert/cli/compare_command.py:compare": "a command: its parameters are the command's options",
    "ssimpert/cli/minimal_command.py:minimal": "a command: its parameters are the command's options",
    "ssimpert/cli/verify_command.py:verify": "a command: its parameters are the command's options",
    "ssimpert/cli/study_commands.py:run": "a command: its parameters are the command's options",
    "ssimpert/cli/study_outputs.py:table": "a command: its parameters are the command's options",
    "ssimpert/metrics/feature_distance.py:feature_distance": "a distance with its options",
    "ssimpert/perturbation/baselines/foolbox_baseline.py:foolbox_baseline": "an attack with its options",
    "ssimpert/perturbation/budget_search/margin_curve.py:margin_curve": "a perturbation with its options",
    "ssimpert/perturbation/budget_search/minimal_budget.py:minimal_budget": "a perturbation with its options",
    "ssimpert/perturbation/perceptual_ball/constrained.py:perceptual_ball_constrained": "a perturbation, its options",
    "ssimpert/perturbation/perceptual_ball/penalised.py:perceptual_ball_lbfgs": "a perturbation with its options",
    "ssimpert/perturbation/perturb.py:perturb": "a perturbation with its options",
    "ssimpert/study/study.py:Study.__init__": "one keyword for each section of a study",
    "ssimpert/report/agreement_against_level.py:agreement_against_level_figure": "a figure with its options",
    "ssimpert/report/insertion_deletion_figure.py:insertion_deletion_figure": "a figure with its options",
    "ssimpert/report/map_grid.py:map_grid": "a figure with its options",
    "ssimpert/study/outputs/table.py:pivot": "a table with its options",
    "ssimpert/verification/certified_level.py:certified_level": "a bisection of proofs with its options",
    "ssimpert/verification/layer_rules.py:_function_batch_norm": "the parameters of torch's batch_norm",
    "ssimpert/verification/verify.py:verify": "a proof with its options",
    "ssimpert/study/running/run.py:run_study": "a whole study in one call",
}


@dataclass(frozen=True)
class Function:
    """A function of the source.

    Attributes:
        place: its file and its name within the file.
        parameters: their names, without ``self`` and ``cls``.
        docstring: its docstring; for ``__init__`` also that of the class.
        is_public: neither its name nor its class's name begins with an underscore.
        is_compiled: numba or Triton compiles it.
        is_command: it is a command of the command line, whose parameters have help texts instead of ``Args:``.
    """

    place: str
    parameters: tuple[str, ...]
    docstring: str
    is_public: bool
    is_compiled: bool
    is_command: bool


def functions_of(source: str, file: str) -> Iterator[Function]:
    """All functions and methods in ``source``, nested ones included."""

    def walk(node: ast.AST, qualifier: str, class_docstring: str | None, is_public: bool) -> Iterator[Function]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                public_class = is_public and not child.name.startswith("_")
                yield from walk(child, f"{qualifier}{child.name}.", ast.get_docstring(child) or "", public_class)
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield function_of(child, qualifier, class_docstring, is_public)
                yield from walk(child, f"{qualifier}{child.name}.", None, False)
            else:
                yield from walk(child, qualifier, class_docstring, is_public)

    def function_of(
        node: ast.FunctionDef | ast.AsyncFunctionDef, qualifier: str, class_docstring: str | None, is_public: bool
    ) -> Function:
        decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
        arguments = node.args
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        names = [argument.arg for argument in named if argument is not None]
        annotations = [ast.unparse(argument.annotation) for argument in named if argument and argument.annotation]
        if class_docstring is not None and names and names[0] in ("self", "cls"):
            names = names[1:]
        docstring = ast.get_docstring(node) or ""
        if node.name == "__init__":
            docstring += "\n" + (class_docstring or "")
        return Function(
            place=f"{file}:{qualifier}{node.name}",
            parameters=tuple(names),
            docstring=docstring,
            is_public=is_public and (node.name == "__init__" or not node.name.startswith("_")),
            is_compiled=any(COMPILED.match(decorator) for decorator in decorators),
            is_command=any("typer." in annotation for annotation in annotations) or "with_option_groups" in decorators,
        )

    yield from walk(ast.parse(source), "", None, True)


@cache
def all_functions() -> tuple[Function, ...]:
    files = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    return tuple(
        function
        for file in files
        for function in functions_of(file.read_text(encoding="utf-8"), file.relative_to(ROOT).as_posix())
    )


def undocumented(function: Function) -> list[str]:
    """The parameters that the ``Args:`` section, or for a class ``Attributes:``, does not name."""
    sections = re.findall(r"^(?:Args|Attributes):\n(.*?)(?=^\S|\Z)", function.docstring, re.MULTILINE | re.DOTALL)
    documented = {
        name.strip().lstrip("*")
        for section in sections
        for names in re.findall(r"^ {4}([\w*, ]+):", section, re.MULTILINE)
        for name in names.split(",")
    }
    return [name for name in function.parameters if name not in documented]


def offenders_of_documentation() -> list[str]:
    """Public functions of five parameters or more, each with the parameters that it does not document."""
    return [
        f"{function.place}: {', '.join(undocumented(function))}"
        for function in all_functions()
        if function.is_public
        and not function.is_compiled
        and not function.is_command
        and len(function.parameters) >= DOCUMENTED_FROM
        and undocumented(function)
    ]


def offenders_of_length() -> list[str]:
    """Functions of more than eight parameters that are no public entry points, each with their number."""
    return [
        f"{function.place}: {len(function.parameters)}"
        for function in all_functions()
        if not function.is_compiled and len(function.parameters) > MAX_PARAMETERS and function.place not in ENTRY_POINTS
    ]


def test_public_functions_of_five_parameters_or_more_document_each_of_them() -> None:
    offenders = offenders_of_documentation()
    assert not offenders, "these need an Args: section that names every parameter:\n" + "\n".join(offenders)


def test_no_function_but_an_entry_point_has_more_than_eight_parameters() -> None:
    offenders = offenders_of_length()
    assert not offenders, "these have too many parameters:\n" + "\n".join(offenders)


def test_exceptions_are_still_needed() -> None:
    places = {function.place: function for function in all_functions()}
    for place in ENTRY_POINTS:
        assert place in places, f"{place} does not exist"
        assert len(places[place].parameters) > MAX_PARAMETERS, f"{place} needs no exception"


EXAMPLE = '''
class Public:
    """A class.

    Attributes:
        a, b: two of its parameters.
    """

    def __init__(self, a, b, c, d, e):
        """Make one.

        Args:
            c: the third.
                Its second line: with a colon.
            d, e: two more.
        """

    def method(self, a, b, *c, d, **e):
        """Do it.

        Args:
            a: first.
            *c: more.
            d: by keyword.

        Returns:
            b: which is no parameter here.
        """

@numba.njit(cache=True)
def kernel(a, b, c, d, e, f, g, h, i):
    pass

def _private(a, b, c, d, e):
    def inner(a, b, c, d, e, f, g, h, i):
        pass
'''


@pytest.mark.parametrize(
    ("place", "missing", "is_public", "is_compiled"),
    [
        ("example.py:Public.__init__", [], True, False),
        ("example.py:Public.method", ["b", "e"], True, False),
        ("example.py:kernel", list("abcdefghi"), True, True),
        ("example.py:_private", list("abcde"), False, False),
        ("example.py:_private.inner", list("abcdefghi"), False, False),
    ],
)
def test_parameters_are_found_as_a_reader_finds_them(
    place: str, missing: list[str], is_public: bool, is_compiled: bool
) -> None:
    function = {entry.place: entry for entry in functions_of(EXAMPLE, "example.py")}[place]
    assert set(undocumented(function)) == set(missing)
    assert function.is_public is is_public
    assert function.is_compiled is is_compiled
