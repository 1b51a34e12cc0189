"""A Griffe extension: docstrings as this project writes them, and names as the packages export them.

Docstrings refer to other names by Sphinx's roles (``:func:`~solvers.solve` ``). Here such a role becomes a reference
that ends as a link where the name is on the site, and as code everywhere else. An entry of several names
(``image, adversarial: ...``) becomes an entry for each name.

Griffe reads the sources without running them. Where a module and the function that it exports have the same name
(``solvers/solve.py`` and ``solvers.solve``), Griffe finds the module, Python the function. Here Python's answer is put
in its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`(?P<short>~?)(?P<name>[\w.:]+)`")
ENTRY = re.compile(r"^    (?P<names>\w+(?:, \w+)+): (?P<text>.*(?:\n {5,}.*)*)$", re.MULTILINE)
PACKAGES = ("solvers", "ssimpert")


class PublicNames(griffe.Extension):
    """Reads one package after the other, see the module's docstring."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:
        """Called once a package with all its modules is loaded."""
        for documented in objects_of(pkg):
            if documented.docstring is not None:
                documented.docstring.value = rewritten(documented.docstring.value, documented)
        export_functions(pkg)


def objects_of(parent: griffe.Object) -> Iterator[griffe.Object]:
    """The object and all objects that are defined within it; what is imported is left out."""
    yield parent
    for member in parent.members.values():
        if not member.is_alias:
            yield from objects_of(member)


def rewritten(docstring: str, documented: griffe.Object) -> str:
    """The docstring with its roles as references, with ``text::`` before a block as ``text:``, and with one name to an
    entry."""

    def reference(role: re.Match[str]) -> str:
        name = role["name"].removeprefix(".")
        shown = name.rpartition(".")[2] if role["short"] else name
        return f'<autoref identifier="{full_path(role["name"], documented)}" optional><code>{shown}</code></autoref>'

    def entries(several: re.Match[str]) -> str:
        return "\n".join(f"    {name}: {several['text']}" for name in several["names"].split(", "))

    docstring = re.sub(r"::$", ":", ROLE.sub(reference, docstring), flags=re.MULTILINE)
    title, arguments, entered = docstring.partition("\nArgs:\n")
    return title + arguments + ENTRY.sub(entries, entered)


def full_path(name: str, documented: griffe.Object) -> str:
    """The full path of ``name``, which may be relative to the module or to the class of ``documented``."""
    first, _, rest = name.removeprefix(".").partition(".")
    path = f"{documented.module.path}.{name.removeprefix('.')}"
    if first in PACKAGES:
        path = name
    elif not name.startswith("."):
        with suppress(griffe.NameResolutionError):
            path = ".".join(filter(None, (documented.resolve(first), rest)))
    # Of a module and its function of the same name, a docstring means the function.
    member = path.rpartition(".")[2]
    with suppress(KeyError, griffe.AliasResolutionError):
        found = documented.modules_collection[path]
        if not found.is_alias and found.is_module and member in found.members:
            return f"{path}.{member}"
    return path


def export_functions(package: griffe.Module) -> None:
    """Put exported names where Griffe has a module of the same name."""
    modules = [package, *(module for module in objects_of(package) if module.is_module)]
    hidden = {
        f"{module.path}.{name}": (module, module.imports[name])
        for module in modules
        for name, member in module.members.items()
        if name in module.imports and not member.is_alias and member.is_module and module.imports[name] != member.path
    }
    # What is imported from such a module is found before the module makes room for the name.
    found = {path: package.modules_collection[target] for path, (_, target) in hidden.items()}
    for module in modules:
        for member in module.members.values():
            if member.is_alias and any(member.target_path.startswith(f"{path}.") for path in hidden):
                with suppress(griffe.AliasResolutionError, griffe.CyclicAliasError):
                    member.resolve_target()
    for path, (module, _) in hidden.items():
        name = path.rpartition(".")[2]
        module.set_member(name, griffe.Alias(name, target=found[path], parent=module))
