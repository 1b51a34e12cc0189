"""The documentation site: every public name is on it, and it loads nothing from another host."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
PACKAGES = (
    "solvers",
    "solvers.conformance",
    "solvers.constraints",
    "ssimpert",
    "ssimpert.analysis",
    "ssimpert.data",
    "ssimpert.data.datasets",
    "ssimpert.linearization",
    "ssimpert.metrics",
    "ssimpert.models",
    "ssimpert.perturbation",
    "ssimpert.report",
    "ssimpert.report.html",
    "ssimpert.study",
    "ssimpert.verification",
)


def documented_names() -> list[str]:
    """The identifiers of all pages of the interface, as ``::: identifier`` names them."""
    pages = sorted((DOCS / "api").rglob("*.md"))
    return [name for page in pages for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)]


def object_named(name: str) -> Any:
    package, _, member = name.rpartition(".")
    return getattr(import_module(package), member)


def load(name: str) -> ModuleType:
    """A module of the folder ``docs``, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_site = load("check_site")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_on_a_page(package: str) -> None:
    documented = documented_names()
    for name in import_module(package).__all__:
        if f"{package}.{name}" in documented:
            continue
        exported = object_named(f"{package}.{name}")
        elsewhere = [other for other in documented if other.rpartition(".")[2] == name]
        assert any(object_named(other) is exported for other in elsewhere), f"no page of docs/api has {package}.{name}"


def test_every_name_on_a_page_is_public_and_is_there_once() -> None:
    documented = documented_names()
    assert len(documented) == len(set(documented))
    for name in documented:
        package, _, member = name.rpartition(".")
        assert package in PACKAGES, name
        assert member in import_module(package).__all__, name


def test_the_site_asks_no_other_host() -> None:
    assert CONFIG["theme"]["font"] is False
    for key in ("extra_css", "extra_javascript"):
        for path in CONFIG[key]:
            assert (DOCS / path).is_file(), path
    (mkdocstrings,) = (plugin["mkdocstrings"] for plugin in CONFIG["plugins"] if "mkdocstrings" in plugin)
    assert "inventories" not in mkdocstrings["handlers"]["python"]
    assert not re.findall(r"https?://\S+", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert not {"repo_url", "site_url", "analytics"} & (set(CONFIG) | set(CONFIG["extra"]))


def test_warnings_end_the_build() -> None:
    (build,) = re.findall(r"mkdocs build.*", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert "--strict" in build
    assert "-q" not in build  # would hide warnings from --strict, too


def test_katex_is_shipped_as_it_was_released() -> None:
    folder = DOCS / "assets" / "katex"
    sums = dict(line.split()[::-1] for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines())
    for name, expected in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected, name
    shipped = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert shipped == sums.keys() | {"README.md", "SHA256SUMS"}
    used = re.findall(r"url\((fonts/[^)]+\.woff2)\)", (folder / "katex.min.css").read_text(encoding="utf-8"))
    assert set(used) <= sums.keys()


def test_the_first_example_is_the_one_of_the_readme() -> None:
    first, *_ = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert re.findall(r"```python\n(.*?)```", (DOCS / "index.md").read_text(encoding="utf-8"), re.DOTALL) == [first]


def test_the_tables_of_the_benchmarks_are_those_of_the_readme() -> None:
    how_fast = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## How fast\n")[1].split("\n## ")[0]
    rows = [line for line in how_fast.splitlines() if line.startswith("|")]
    assert len(rows) == 5
    page = (DOCS / "benchmarks.md").read_text(encoding="utf-8").splitlines()
    assert not [row for row in rows if row not in page]


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/katex.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        '<link rel="preconnect" href="https://fonts.example">',
        '<img srcset="https://example.org/a.png 2x">',
        "<style>@font-face { src: url('https://example.org/a.woff2') }</style>",
        '<p style="background: url(//example.org/a.png)">',
        '<iframe src="http://example.org"></iframe>',
        '<img src="missing.png">',
    ],
)
def test_a_page_that_needs_the_network_or_a_missing_file_is_found(html: str, tmp_path: Path) -> None:
    faults = check_site.loading_faults(check_site.Page(html), tmp_path / "page.html", tmp_path)
    assert len(faults) == 1
    assert faults[0].startswith("loads ")


def test_a_page_of_its_own_files_is_sound(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "notes").mkdir()
    html = '<img src="../a.png?1"><a href="https://example.org">a link</a><link rel="canonical" href="https://x.org/">'
    assert not check_site.loading_faults(check_site.Page(html), tmp_path / "notes" / "page.html", tmp_path)


def test_formulas_are_read_with_their_marks() -> None:
    page = check_site.Page(
        r'<p>For <span class="arithmatex">\(a &lt; b\)</span>.</p><div class="arithmatex">\[c\]</div>'
    )
    assert page.formulas == [r"\(a < b\)", r"\[c\]"]
    assert page.paragraphs == [r"For \(a < b\)."]


def test_a_list_that_became_a_paragraph_is_found() -> None:
    assert check_site.markdown_faults(check_site.Page("<p>Two:\n- one\n- two</p>"))
    assert not check_site.markdown_faults(check_site.Page("<p>a\n- b</p><ul><li>one</li></ul>"))


def test_a_formula_that_katex_cannot_set_is_found() -> None:
    pytest.importorskip("dukpy")
    fault = check_site.katex(DOCS)
    assert fault(r"\(\frac{1}{2}\)") is None
    assert "Undefined control sequence" in fault(r"\[\fraction{1}{2}\]")


def test_a_link_to_a_source_file_becomes_its_path() -> None:
    def on_site(markdown: str) -> str:
        page = SimpleNamespace(file=SimpleNamespace(abs_src_path=str(DOCS / "notes" / "tiles.md")))
        rendered: str = load("hooks").on_page_markdown(markdown, page=page, config={"docs_dir": str(DOCS)})
        return rendered

    assert on_site("[the choice](../../solvers/solve.py#L1)") == "the choice (`solvers/solve.py`)"
    assert on_site("[`solvers/solve.py`](../../solvers/solve.py)") == "`solvers/solve.py`"
    for kept in ("[results](../results.md)", "![a plot](../images/scaling.png)", "[GPU](gpu.md)"):
        assert on_site(kept) == kept


def test_roles_and_entries_of_docstrings_become_markdown() -> None:
    griffe = pytest.importorskip("griffe")
    with griffe.temporary_visited_module('def f(x, y):\n    """Text."""\n', module_name="solvers") as module:
        function = module["f"]
        rewritten = load("griffe_public_names").rewritten
        link = '<autoref identifier="solvers.f" optional><code>f</code></autoref>'
        assert rewritten(":func:`f`, :func:`~solvers.f`", function) == f"{link}, {link}"
        text = "Sum::\n\n    x + y\n\nArgs:\n    x, y: numbers,\n        any."
        assert rewritten(text, function) == (
            "Sum:\n\n    x + y\n\nArgs:\n    x: numbers,\n        any.\n    y: numbers,\n        any."
        )
