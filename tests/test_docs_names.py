"""The files and constants that the documentation names exist, and the constants have the values that tables say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [page for page in sorted(DOCS.glob("**/*.md")) if "assets" not in page.parts]
PAGES += [ROOT / "README.md"]
FOLDERS = ("solvers", "ssimpert", "tests", "benchmarks", "examples", "docs")
# What a command writes, another program keeps or a data set has is not in the tree.
ELSEWHERE = re.compile(
    r"^(out|~|parts|provenance|validation|validation-segmentation|VOCdevkit|ImageSets|val2017|annotations)/"
    r"|^data/(ILSVRC2012|meta)"
)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


@cache
def files() -> frozenset[str]:
    """The files of the tree, without what commands write there."""
    everything = [*ROOT.glob("*"), *(path for folder in FOLDERS for path in (ROOT / folder).glob("**/*"))]
    return frozenset(path.relative_to(ROOT).as_posix() for path in everything if path.is_file())


@cache
def constants() -> dict[str, list[tuple[str, float | None]]]:
    """Where each upper-case name is assigned, in a module or a class, and to which number, if it is one."""
    found: dict[str, list[tuple[str, float | None]]] = {}
    for path in sorted(files()):
        if path.endswith(".py") and not path.startswith("docs/"):
            for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
                for name, value in _assigned(node):
                    found.setdefault(name, []).append((path, value))
    return found


def _assigned(node: ast.AST) -> Iterator[tuple[str, float | None]]:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            for k, name in enumerate(names):
                if isinstance(name, ast.Name) and name.id.isupper():
                    yield name.id, _number(values[k]) if len(names) == len(values) else None


def _number(node: ast.expr | None) -> float | None:
    """The number that an expression of literals stands for."""
    if node is None or any(isinstance(part, ast.Name | ast.Call | ast.Attribute) for part in ast.walk(node)):
        return None
    value = eval(compile(ast.Expression(node), "constant", "eval"), {})
    return float(value) if isinstance(value, int | float) else None


def code_spans(page: Path) -> list[tuple[str, str]]:
    """Every span in backticks outside of code blocks, with the line that it stands in."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [(span, line) for line in text.splitlines() for span in re.findall(r"`([^`]+)`", line)]


def paths_in(page: Path) -> list[str]:
    """The spans that are paths: with a slash and no spaces, or the bare name of a module."""
    spans = [span for span, _ in code_spans(page) if re.fullmatch(r"[\w.~*-]+(/[\w.*-]*)+|\w+\.py", span)]
    return [span for span in spans if not ELSEWHERE.search(span)]


def exists(path: str) -> bool:
    if "/" not in path:
        return any(file.endswith(f"/{path}") for file in files())
    pattern = re.compile(re.escape(path.rstrip("/")).replace(r"\*", "[^/]*") + "(/.*)?")
    return any(pattern.fullmatch(file) for file in files())


def written_number(text: str) -> float | None:
    """A number as tables write it: 0.05, 1e-3, 1/2, 49,152, 2^-12."""
    power = re.fullmatch(r"2\^(-?\d+)", text)
    if power:
        return 2.0 ** int(power[1])
    try:
        return float(Fraction(text))
    except ValueError:
        return None


def rows_of_constants(page: Path) -> list[tuple[list[str], list[float], str]]:
    """Rows of tables that give each of their constants one number: the names, the numbers, and the row."""
    rows = []
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 3 and (names := re.findall(r"`([A-Z][A-Z_]+)`", cells[1])):
            written = re.sub(r"(\d),(\d{3})\b", r"\1\2", cells[2]).split(", ")
            numbers = [number for text in written if (number := written_number(text)) is not None]
            if len(numbers) == len(written) == len(names):
                rows.append((names, numbers, line))
    return rows


@each_page
def test_every_path_exists(page: Path) -> None:
    assert [path for path in paths_in(page) if not exists(path)] == []


@each_page
def test_every_constant_exists_in_the_module_that_its_line_names(page: Path) -> None:
    for span, line in code_spans(page):
        if re.fullmatch(r"[A-Z]+(_[A-Z]+)*", span) and len(span) > 3:
            modules = re.findall(r"`([\w/]+\.py)`", line)
            places = [path for path, _ in constants().get(span, [])]
            assert places, f"{span} is no constant of the tree"
            if modules:
                assert any(path.endswith(module) for path in places for module in modules), f"{span} is in {places}"


@each_page
def test_tables_of_constants_say_the_values_of_the_code(page: Path) -> None:
    for names, numbers, line in rows_of_constants(page):
        modules = tuple(re.findall(r"`([\w/]+\.py)`", line)) or (".py",)
        for name, number in zip(names, numbers, strict=True):
            values = [value for path, value in constants()[name] if path.endswith(modules)]
            assert number in values or None in values, f"{name} is {values}, the page says {number}"


def test_the_pages_are_read() -> None:
    """The three tests above would hold, too, if they found nothing."""
    assert sum(len(paths_in(page)) for page in PAGES) > 100
    rows = [row for page in PAGES for row in rows_of_constants(page)]
    assert sum(len(names) for names, _, _ in rows) > 40
    assert constants()["WARMUP_ITERATIONS"] == [("solvers/methods/dual/iteration.py", 10.0)]
    assert not exists("solvers/no_such_file.py")
    assert not exists("no_such_file.py")
