"""The notebooks run from top to bottom, what they show can be shown, and they are kept without outputs.

The cells are executed in this process: a kernel of Jupyter takes seconds to start, and shows nothing more.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ssimpert.test_notebook_pictures import Tags

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def contents(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def run_cell(source: str, names: dict[str, Any], name: str) -> Any:
    """Execute a cell as Jupyter does; return the value of its last line, or None."""
    tree = ast.parse(source)
    last = tree.body[-1]
    if not isinstance(last, ast.Expr):
        exec(compile(tree, name, "exec"), names)
        return None
    exec(compile(ast.Module(tree.body[:-1], []), name, "exec"), names)
    return eval(compile(ast.Expression(last.value), name, "eval"), names)


def shown(value: Any) -> str:
    """Which form of ``value`` a notebook shows; fails where the form can't be shown."""
    if hasattr(value, "_repr_png_"):
        assert value._repr_png_().startswith(b"\x89PNG")
        return "picture"
    html = value._repr_html_() if hasattr(value, "_repr_html_") else None
    if html is None:
        return "text" if repr(value) else "nothing"
    assert len(html) < 400_000
    assert "<script" not in html
    return "pictures" if Tags(html).pictures() else "table"


@pytest.mark.parametrize(
    ("name", "forms"),
    [
        ("a_formulation_of_your_own", {"pictures", "text"}),
        ("perturb_and_compare", {"picture", "pictures", "table", "text"}),
        ("solvers_alone", {"picture", "table"}),
    ],
)
def test_a_notebook_runs_and_shows_its_results(
    name: str, forms: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # away from the repository, as after an installation
    torch.manual_seed(0)
    names: dict[str, Any] = {"__name__": "__main__"}
    found = set()
    for number, cell in enumerate(contents(ROOT / "examples" / "notebooks" / f"{name}.ipynb")["cells"]):
        if cell["cell_type"] == "code":
            value = run_cell("".join(cell["source"]), names, f"{name}, cell {number}")
            if value is not None:
                found.add(shown(value))
    assert found == forms
    assert not list(tmp_path.iterdir())
    capsys.readouterr()


@each_notebook
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    notebook = contents(path)
    assert (notebook["nbformat"], notebook["metadata"]["kernelspec"]["name"]) == (4, "python3")
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


def test_every_notebook_is_on_the_page() -> None:
    page = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    assert set(re.findall(r"examples/notebooks/(\w+)\.ipynb", page)) == {path.stem for path in NOTEBOOKS}
