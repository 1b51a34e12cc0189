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


def test_a_method_of_ones_own_takes_ten_lines_and_is_certified(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "how-to-choose.md").read_text(encoding="utf-8"), re.DOTALL)
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
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    torch.manual_seed(0)
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page, re.DOTALL)):
        exec(compile(code, f"api block {number}", "exec"), names)
        assert names["result"].steps.tolist() == [[20, 20], [3, 3]][number]
    assert names["view"].cam_layer == "1"


@pytest.mark.parametrize("page", ["attributions", "map-agreement"])
def test_the_examples_of_a_page_of_methods_run(page: str) -> None:
    names: dict[str, Any] = {}
    text = (DOCS / "methods" / f"{page}.md").read_text(encoding="utf-8")
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL)):
        exec(compile(code, f"{page} block {number}", "exec"), names)
    assert names["maps"].shape == (1, 128, 128)


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
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).is_file(), target
