"""The mutations of a file: one small change each, made by the operators of Cosmic Ray.

Of each operation one or two replacements are tried, the likely slips: plus for minus, times for divided by, < for <=, a
condition turned round, a number that is off by one. Replacements that fail at once, as a shift of a float does, would
only raise the score.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

BINARY = [("Add", "Sub"), ("Sub", "Add"), ("Mul", "Div"), ("Div", "Mul"), ("Pow", "Mul"), ("FloorDiv", "Mul")]
BINARY += [("Mod", "Mul"), ("BitAnd", "BitOr"), ("BitOr", "BitAnd")]
COMPARISONS = [("Lt", "LtE"), ("Lt", "GtE"), ("LtE", "Lt"), ("LtE", "Gt"), ("Gt", "GtE"), ("Gt", "LtE")]
COMPARISONS += [("GtE", "Gt"), ("GtE", "Lt"), ("Eq", "NotEq"), ("NotEq", "Eq"), ("Is", "IsNot"), ("IsNot", "Is")]
NUMBERS = "core/NumberReplacer"
OPERATORS = (
    *(f"core/ReplaceBinaryOperator_{old}_{new}" for old, new in BINARY),
    *(f"core/ReplaceComparisonOperator_{old}_{new}" for old, new in COMPARISONS),
    *(f"core/ReplaceUnaryOperator_{name}" for name in ("Delete_Not", "Delete_USub", "Delete_Invert")),
    "core/AddNot",
    NUMBERS,
    "core/ReplaceAndWithOr",
    "core/ReplaceOrWithAnd",
    "core/ReplaceTrueWithFalse",
    "core/ReplaceFalseWithTrue",
    "core/ReplaceBreakWithContinue",
    "core/ReplaceContinueWithBreak",
    "core/RemoveDecorator",
    "core/ZeroIterationForLoop",
)


@dataclass(frozen=True)
class Mutation:
    """One change.

    Attributes:
        path: the file, relative to the repository.
        operator: Cosmic Ray's name of the operator.
        occurrence: which of the operator's places in the file.
        line: the number of the first line that changes.
    """

    path: str
    operator: str
    occurrence: int
    line: int

    def apply(self, source: str) -> str:
        """The changed text of the file."""
        mutated = mutate_code(source, get_operator(self.operator)(), self.occurrence)
        assert mutated is not None
        return str(mutated)

    def describe(self, source: str) -> str:
        """The line before and after."""
        before, after = source.splitlines(), self.apply(source).splitlines()
        changed = [number for number, (a, b) in enumerate(zip(before, after, strict=False)) if a != b]
        number = changed[0] if changed else self.line - 1
        return f"{before[number].strip()}  ->  {after[number].strip() if number < len(after) else ''}"


def all_mutations(root: Path, paths: Sequence[str]) -> Iterator[Mutation]:
    """Every mutation of the files, in order; without annotations, which nothing reads at run time."""
    for path in paths:
        source = (root / path).read_text()
        skipped = lines_without_effect(source)
        tree = get_ast(source)
        nodes = list(ast_nodes(tree))
        for name in OPERATORS:
            operator = get_operator(name)()
            positions = [position for node in nodes for position in operator.mutation_positions(node)]
            for occurrence, ((line, column), _) in enumerate(positions):
                if name == NUMBERS and occurrence % 2:
                    continue  # one more is enough; Cosmic Ray also tries one less
                if not any(start <= (line, column) < end for start, end in skipped):
                    yield Mutation(path, name, occurrence, line)


def sample(mutations: Sequence[Mutation], count: int, seed: int) -> list[Mutation]:
    """``count`` of the mutations, drawn without replacement; all of them where there are fewer."""
    if count >= len(mutations):
        return list(mutations)
    return random.Random(seed).sample(list(mutations), count)


Position = tuple[int, int]


def lines_without_effect(source: str) -> list[tuple[Position, Position]]:
    """Where a change can't show: annotations, the bodies of ``if TYPE_CHECKING``, and messages of errors."""
    spans: list[tuple[Position, Position]] = []

    def add(node: ast.AST | None) -> None:
        if node is not None and hasattr(node, "lineno"):
            spans.append(((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)))

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            add(node.returns)
        elif isinstance(node, (ast.arg, ast.AnnAssign)):
            add(node.annotation)
        elif isinstance(node, ast.JoinedStr) or (isinstance(node, ast.If) and is_for_types_only(node)):
            add(node)
    return spans


def is_for_types_only(node: ast.If) -> bool:
    """Whether the body is for type checkers alone."""
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def parses(source: str) -> bool:
    """Whether Python accepts the text."""
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return bool(parso.parse(source))
