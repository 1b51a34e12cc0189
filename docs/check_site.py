"""What must hold of the built documentation, and what MkDocs itself does not check. Run with
``python docs/check_site.py out/site``; ``make docs`` does so after each build.

- No page or style sheet loads a script, a style, a font, an image or a frame from another host, and the site has each
  file that a page loads. So the pages, formulas included, look the same with the network off.
- Each formula is one that the shipped KaTeX sets without an error and without a warning.
- No paragraph holds a list or a table that Markdown took for text (a blank line before it is missing).

Exit code 0, or 1 with one line on stderr for each fault.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

KATEX = Path("assets/katex/katex.min.js")
# What a browser loads by itself; a link that a reader may click (`a href`) is not among them.
LOADED = {
    "audio": "src",
    "embed": "src",
    "iframe": "src",
    "image": "href",
    "img": "src",
    "input": "src",
    "object": "data",
    "script": "src",
    "source": "src",
    "track": "src",
    "use": "href",
    "video": "src",
}
NOT_LOADED_LINKS = {"alternate", "author", "canonical", "edit", "help", "license", "next", "prev"}
# `url(...)` and `@import "..."` of a style sheet that name a host.
REMOTE_STYLE = re.compile(r"(?:url\(\s*[\"']?|@import\s+[\"'])((?:https?:)?//[^\"')\s]+)", re.IGNORECASE)
MARKDOWN_AS_TEXT = re.compile(r"^(?:[-*] |\d+\. |\|)", re.MULTILINE)


class Page(HTMLParser):
    """Collects from one page what it loads, its formulas, its styles and its paragraphs."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.formulas: list[str] = []
        self.styles: list[str] = []
        self.paragraphs: list[str] = []
        self.has_diagram = False
        self._open: list[tuple[str, list[str], list[str]]] = []  # tag, text so far, where the text goes
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag in LOADED and LOADED[tag] in given:
            self.loaded.append(given[LOADED[tag]])
        if tag == "link" and not NOT_LOADED_LINKS & set(given.get("rel", "").split()):
            self.loaded.append(given.get("href", ""))
        for candidate in filter(None, (part.split() for part in given.get("srcset", "").split(","))):
            self.loaded.append(candidate[0])
        if "style" in given:
            self.styles.append(given["style"])
        classes = given.get("class", "").split()
        self.has_diagram |= "mermaid" in classes
        if "arithmatex" in classes:
            self._collect(tag, self.formulas)
        elif tag == "style":
            self._collect(tag, self.styles)
        elif tag == "p":
            self._collect(tag, self.paragraphs)

    def _collect(self, tag: str, into: list[str]) -> None:
        self._open.append((tag, [], into))

    def handle_data(self, data: str) -> None:
        for _, text, _ in self._open:
            text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1][0] == tag:
            _, text, into = self._open.pop()
            into.append("".join(text))


def main(site: Path) -> int:
    """Check the site in this folder; print its faults; return the exit code."""
    pages = sorted(site.rglob("*.html"))
    if not pages:
        print(f"{site}: no pages; run: make docs", file=sys.stderr)
        return 1
    set_formula = katex(site)
    faults, formulas = [], 0
    for path in pages:
        page = Page(path.read_text(encoding="utf-8"))
        formulas += len(page.formulas)
        found = [*loading_faults(page, path, site), *formula_faults(page, set_formula), *markdown_faults(page)]
        faults += [f"{path}: {fault}" for fault in found]
    for path in sorted(site.rglob("*.css")):
        faults += [f"{path}: loads {url}" for url in REMOTE_STYLE.findall(path.read_text(encoding="utf-8"))]
    print(*faults, sep="\n", end="\n" if faults else "", file=sys.stderr)
    print(f"{site}: {len(pages)} pages, {formulas} formulas, {len(faults)} faults")
    return 1 if faults else 0


def loading_faults(page: Page, path: Path, site: Path) -> list[str]:
    """What a page loads from another host, and what it loads that is not there."""
    faults = [f"loads {url}" for style in page.styles for url in REMOTE_STYLE.findall(style)]
    if page.has_diagram:
        faults.append("has a mermaid diagram, whose script the theme loads from another host")
    for url in page.loaded:
        parts = urlsplit(url)
        if parts.scheme == "data" or not (parts.scheme or parts.netloc or parts.path):
            continue
        if parts.scheme or parts.netloc:
            faults.append(f"loads {url}")
            continue
        folder = site if parts.path.startswith("/") else path.parent
        if not (folder / unquote(parts.path).lstrip("/")).exists():
            faults.append(f"loads {url}, which the site does not have")
    return faults


def formula_faults(page: Page, set_formula: Callable[[str], str | None]) -> list[str]:
    """Formulas that KaTeX does not set, with its reason."""
    reasons = ((formula.strip(), set_formula(formula.strip())) for formula in page.formulas)
    return [f"{formula}: {reason}" for formula, reason in reasons if reason]


def markdown_faults(page: Page) -> list[str]:
    """Paragraphs that hold a list or a table."""
    return [f"a list or table within a paragraph: {text[:60]!r}" for text in page.paragraphs if is_markdown(text)]


def is_markdown(paragraph: str) -> bool:
    """Whether two lines of a paragraph begin as a list's items or a table's rows do."""
    return len(MARKDOWN_AS_TEXT.findall(paragraph)) > 1


def katex(site: Path) -> Callable[[str], str | None]:
    """The shipped KaTeX as a function from a marked formula to its fault, or to None."""
    import dukpy  # of the extra `docs`; the tests import this module without it

    interpreter = dukpy.JSInterpreter()
    interpreter.evaljs(f"{(site / KATEX).read_text(encoding='utf-8')}; null")
    options = "{displayMode: dukpy.display, throwOnError: true, strict: 'error'}"

    def fault(marked: str) -> str | None:
        text, display = marked[2:-2], marked.startswith("\\[")
        try:
            interpreter.evaljs(f"katex.renderToString(dukpy.text, {options}); null", text=text, display=display)
        except dukpy.JSRuntimeError as error:
            return str(error).splitlines()[0]
        return None

    return fault


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
