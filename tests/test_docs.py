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


PAGES_WITH_EXAMPLES = [
    page for folder in ("concepts", "methods") for page in sorted((DOCS / folder).glob("*.md")) if python_blocks(page)
]


def test_a_method_of_ones_own_takes_ten_lines_and_is_certified(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = python_blocks(DOCS / "how-to-choose.md")
    names: dict[str, object] = {}
    try:
        exec(compile(code, "how-to-choose", "exec"), names)
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


def test_a_model_and_a_set_of_ones_own_work() -> None:
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    for number, code in enumerate(python_blocks(DOCS / "api.md")):
        exec(compile(code, f"api block {number}", "exec"), names)
        assert names["result"].steps.tolist() == [[20, 20], [20, 20], [3, 3]][number]
    assert names["view"].cam_layer == "1"


@pytest.mark.parametrize("page", PAGES_WITH_EXAMPLES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_the_examples_of_a_page_run_in_order(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Later blocks see the names of earlier ones. What a page claims of its results, the page asserts."""
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    assert page.parent.name != "concepts" or any("assert" in code for code in python_blocks(page))
    for number, code in enumerate(python_blocks(page)):
        exec(compile(code, f"{page.parent.name}/{page.name} block {number}", "exec"), names)
    capsys.readouterr()  # what the examples print is no part of the test's output


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
