"""What the documentation shows runs as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

import solvers
import ssimpert
from ssimpert import analysis
from ssimpert.analysis.map_agreement.metrics import AGREEMENT_METRICS

DOCS = Path(__file__).parent.parent / "docs"


def python_blocks(page: Path) -> list[str]:
    """The Python examples of a page, in order."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


FOLDERS_WITH_EXAMPLES = ("concepts", "methods", "sets", "attributions", "tutorials")
PAGES_WITH_EXAMPLES = [
    page
    for pattern in (*(f"{folder}/*" for folder in FOLDERS_WITH_EXAMPLES), "get-started", "faq", "papers", "api")
    for page in sorted(DOCS.glob(f"{pattern}.md"))
    if python_blocks(page)
]
# Where the text claims something of the results, the examples assert what is claimed.
WITH_CLAIMS = ("concepts", "sets", "attributions", "tutorials")
SECTIONS = ["Formula", "Parameters", "Example", "When to take it", "Source and code"]


def test_a_method_of_ones_own_takes_ten_lines_and_is_certified(capsys: pytest.CaptureFixture[str]) -> None:
    code, *_ = python_blocks(DOCS / "tutorials" / "own-method.md")
    names: dict[str, object] = {}
    try:
        exec(compile(code, "own-method", "exec"), names)
        result = names["result"]
        assert isinstance(result, solvers.SolveResult)
        assert result.method == "sign"
        assert result.status[0].is_limit
        assert float(max(result.max_violation)) < 1e-6
        assert float(min(result.rel_gap)) > 0.05  # far from optimal, and it says so
        problem = names["problem"]
        assert isinstance(problem, solvers.LinearProblem)
        best = solvers.solve(problem).objective
        assert all(float(bound) >= float(value) for bound, value in zip(result.bound, best, strict=True))
    finally:
        solvers.unregister_method("sign")
    body = code[code.index("@solvers") : code.index("x = torch")].strip().splitlines()
    assert len(body) <= 10
    assert "MAX_ITER" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES_WITH_EXAMPLES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_the_examples_of_a_page_run_in_order(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Later blocks see the names of earlier ones. What a page claims of its results, the page asserts."""
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)  # tutorials write files
    assert page.parent.name not in WITH_CLAIMS or any("assert" in code for code in python_blocks(page))
    for number, code in enumerate(python_blocks(page)):
        exec(compile(code, f"{page.parent.name}/{page.name} block {number}", "exec"), names)
    capsys.readouterr()  # what the examples print is no part of the test's output


def pages_of_sets() -> dict[str, Path]:
    """The page that each constraint set of ``solvers`` should have: ``WindowSSIM`` has ``sets/window-ssim.md``."""
    sets = [name for name in solvers.__all__ if is_set(getattr(solvers, name))]
    return {name: DOCS / "sets" / f"{re.sub('(?<=[a-z])(?=[A-Z])', '-', name).lower()}.md" for name in sets}


def is_set(exported: object) -> bool:
    """Whether an exported name is a set that users make, not the class that all sets share."""
    return (
        isinstance(exported, type) and issubclass(exported, solvers.Constraint) and exported is not solvers.Constraint
    )


def pages_of_maps() -> dict[str, Path]:
    """The page that each attribution and each map of a perturbation should have."""
    attributions = {name: DOCS / "attributions" / f"{name.replace('_', '-')}.md" for name in analysis.ATTRIBUTIONS}
    return attributions | {kind: DOCS / "attributions" / f"{kind}-map.md" for kind in analysis.SALIENCY_KINDS}


def test_every_set_and_every_map_has_its_page() -> None:
    assert len(pages_of_sets()) == 9
    missing = [name for name, page in (pages_of_sets() | pages_of_maps()).items() if not page.is_file()]
    assert missing == []


@pytest.mark.parametrize("name", pages_of_sets() | pages_of_maps())
def test_the_page_of_a_set_or_map_has_every_part(name: str) -> None:
    text = (pages_of_sets() | pages_of_maps())[name].read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    parts = dict(zip(SECTIONS, re.split(r"^## .+$", text, flags=re.MULTILINE)[1:], strict=True))
    assert "$$" in parts["Formula"]
    assert parts["Parameters"].count("\n- ") >= 1
    assert "assert" in parts["Example"]
    assert "- Take " in parts["When to take it"]
    assert "- Do not " in parts["When to take it"]
    assert "](../../s" in parts["Source and code"]  # the code
    exported = name if name in pages_of_sets() else {"ssim": "ssim_saliency"}.get(name, name)
    assert f".{exported})" in parts["Source and code"]  # the entry of the interface


def test_no_page_of_a_set_or_map_is_left_over() -> None:
    """A page whose set or map was renamed or removed is found, too."""
    expected = {*pages_of_sets().values(), *pages_of_maps().values(), DOCS / "attributions" / "controls.md"}
    assert {*(DOCS / "sets").glob("*.md"), *(DOCS / "attributions").glob("*.md")} == expected


@pytest.mark.parametrize(
    ("page", "methods"),
    [
        ("attributions", analysis.ATTRIBUTIONS),
        ("map-agreement", [name for name in AGREEMENT_METRICS if "top" not in name]),
    ],
)
def test_a_page_of_methods_leaves_none_out(page: str, methods: Iterable[str]) -> None:
    text = (DOCS / "methods" / f"{page}.md").read_text(encoding="utf-8")
    assert [name for name in methods if f"`ssimpert.analysis.{name}`" not in text] == []


SYMBOL = re.compile(r"[A-Za-z]\d?(_\w)?|alpha|beta|gamma|sigma|theta|lambda|sqrt|max|min")
RELATION = re.compile(r"\^|[≤≥∞√∑·]|\bsqrt\b|[<>]=? ?[A-Za-z(\d]|\|[^| ][^|]*\||[A-Za-z]'[A-Za-z]|->| [-+*/] ")
CHANGED_CODE = {"mutations.md", "reliability.md"}  # they quote lines of code that were changed


def formulas_as_code(text: str) -> list[str]:
    """The spans in backticks that are mathematics: a relation or an operation, and no words but its own."""
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [span for span in spans if RELATION.search(span) and is_symbolic(span)]


def is_symbolic(span: str) -> bool:
    words = re.findall(r"[A-Za-z]\w*", span)
    is_of_symbols = all(SYMBOL.fullmatch(word) for word in words)
    return bool(words) and is_of_symbols and not re.search(r"[^\w\s|().,'+*/^=<>≤≥∞√∑·-]", span)


@pytest.mark.parametrize("page", sorted(DOCS.glob("**/*.md")), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_no_formula_is_set_as_code(page: Path) -> None:
    if page.name not in CHANGED_CODE:
        assert formulas_as_code(page.read_text(encoding="utf-8")) == []


def test_formulas_and_code_are_told_apart() -> None:
    formulas = [
        "`|d|_2 <= r`",
        "`g'd`",
        "`1 - S1 <= beta`",
        "`x + d`",
        "`sqrt(w)`",
        "`u -> J'u`",
        "`(1 + A)(1 + B) <= 1/t`",
    ]
    assert [formulas_as_code(span) for span in formulas] == [[span.strip("`")] for span in formulas]
    code = ["`p=2`", "`[0, 1]`", "`x.half()`", "`a & b`", "`(B, C, H, W)`", "`<= 3`", "`eps_rel=1e-3`", "`8/255`"]
    assert [formulas_as_code(span) for span in code] == [[]] * len(code)


def figures(model: str, table: str) -> dict[tuple[str, str], dict[str, str]]:
    """A table of the results, without intervals: (row, map) -> column -> figure."""
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    header, _, *rows = text.split(f"<!-- {model}: {table} -->\n")[1].split("\n<!-- end -->")[0].splitlines()
    columns = cells(header)[2:]
    return {
        (cells(row)[0], cells(row)[1]): dict(
            zip(columns, (figure.split(" ")[0] for figure in cells(row)[2:]), strict=True)
        )
        for row in rows
    }


def cells(row: str) -> list[str]:
    """The cells of a row of a table in Markdown."""
    return [cell.strip() for cell in row.strip().removeprefix("|").removesuffix("|").split("|")]


def test_the_choice_of_a_formulation_has_the_figures_of_the_results() -> None:
    names = {
        "perceptual ball (L-BFGS)": "perceptual_ball_lbfgs",
        "MeanSSIM, published border": "MeanSSIM",
        "WindowSSIM, 8x8 tiles": "WindowSSIM 8x8 tiles",
        "WindowSSIM, 7x7": "WindowSSIM 7x7",
        "l-infinity": "linf",
        "*local deviation of the photo*": "local std",
        "*a centred Gaussian*": "centred Gaussian",
    }
    tables = {
        column: [figures(f"efficientnet-lite{number}", table) for number in (0, 1)]
        for column, table in (("CC", "agreement"), ("pointing", "benchmarks"), ("MaxBoxAccV2", "benchmarks"))
    }
    page = (DOCS / "choose-a-formulation.md").read_text(encoding="utf-8")
    header, _, *rows = page[page.index("| formulation |") :].split("\n\n")[0].splitlines()
    compared = 0
    for row in rows:
        title, *shown = cells(row)
        name = names.get(title.replace("`", ""), title.replace("`", ""))
        for column, figure in zip(cells(header)[1:], shown, strict=True):
            if figure:
                metric, _, kind = column.partition(", ")
                kind = "" if title.startswith("*") else {"rms": "rms", "contribution": "g·d"}[kind]
                assert figure == ", ".join(table[name, kind][metric] for table in tables[metric]), (title, column)
                compared += 1
    assert compared == 9 * 5 + 2 * 3


def test_the_interface_at_a_glance_leaves_no_name_out() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8") + (DOCS.parent / "README.md").read_text(encoding="utf-8")
    others = {"solve", "certify", "LinearProblem", "ProjectionProblem", "Window"}
    for name in {name for name in ssimpert.__all__ if not name.endswith("Result")} | others:
        assert name in page or name == "__version__", name


@pytest.mark.parametrize("page", sorted(DOCS.glob("**/*.md")), ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).is_file(), target
