"""What MkDocs does beside its own work: links that leave ``docs/`` become plain text on the site.

On a forge a page may link a source file (``../solvers/solve.py``). The site has no such page, so that the link's text
stays and the file's path is named behind it.
"""

from __future__ import annotations

import os
import re
from typing import Any

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>\.\./[^)\s#]+)(?:#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Called by MkDocs with the text of each page; returns the text to render."""
    docs = os.path.abspath(config["docs_dir"])
    folder = os.path.dirname(page.file.abs_src_path)

    def named(link: re.Match[str]) -> str:
        target = os.path.normpath(os.path.join(folder, link["target"]))
        if target.startswith(docs + os.sep):
            return link[0]
        path = os.path.relpath(target, os.path.dirname(docs))
        return link["text"] if link["text"].strip("`") == path else f"{link['text']} (`{path}`)"

    return LINK.sub(named, markdown)
