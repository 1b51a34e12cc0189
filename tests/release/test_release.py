"""What a release says of itself in several files agrees, and its wheel would be complete."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from datetime import date
from pathlib import Path

import pytest
import yaml

from tests.release import all_pythons
from tests.release.distribution_files import ROOT, declared_data_files, faults_of_wheel, files_of_packages

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RELEASES = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_the_changelog_is_divided_by_release() -> None:
    matches = [re.fullmatch(r"(\d+\.\d+\.\d+) \((unreleased|\d{4}-\d{2}-\d{2})\)", heading) for heading in RELEASES]
    assert matches
    assert None not in matches
    versions = [tuple(map(int, match[1].split("."))) for match in matches if match]
    assert versions == sorted(versions, reverse=True)
    assert "unreleased" not in [match[2] for match in matches[1:] if match]
    for match in matches:
        if match and match[2] != "unreleased":
            date.fromisoformat(match[2])


def test_citation_fallback_and_changelog_say_the_same_version() -> None:
    newest = RELEASES[0].split()[0]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == newest
    assert citation["authors"] == [{"name": "The ssimpert authors"}]
    assert citation["license"] == PYPROJECT["project"]["license"]
    assert PYPROJECT["tool"]["setuptools_scm"]["fallback_version"] == f"{newest}.dev0"


def test_every_file_of_the_packages_that_is_no_python_is_declared() -> None:
    """A tree without git has no other list of them."""
    data = {file for file in files_of_packages() if not file.endswith(".py")}
    assert len(data) > 8
    assert declared_data_files(data) == data


def test_every_folder_of_the_packages_is_a_package() -> None:
    """``packages.find`` leaves folders without ``__init__.py`` out."""
    folders = {Path(file).parent for file in files_of_packages() if file.endswith(".py")}
    assert not [folder for folder in folders if not (ROOT / folder / "__init__.py").is_file()]


def test_a_wheel_that_lacks_a_file_or_holds_a_test_is_refused() -> None:
    whole = [*files_of_packages(), "ssimpert-0.1.0.dist-info/METADATA"]
    assert faults_of_wheel(whole) == []
    assert faults_of_wheel(set(whole) - {"ssimpert/py.typed"}) == ["lacks ssimpert/py.typed"]
    assert faults_of_wheel([*whole, "tests/conftest.py"]) == [
        "holds tests/conftest.py, which is no part of the packages"
    ]


def test_classifiers_name_every_python_from_the_least_on() -> None:
    versions = all_pythons.supported_versions()
    assert versions == ["3.11", "3.12", "3.13"]
    assert PYPROJECT["project"]["requires-python"] == f">={versions[0]}"
    assert PYPROJECT["tool"]["mypy"]["python_version"] == versions[0]
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py" + versions[0].replace(".", "")


@pytest.mark.skipif(os.name == "nt", reason="the programs of the test are scripts of a shell")
def test_a_python_that_does_not_run_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyenv puts a name on the path for every version, also for those that are not chosen."""

    def program(name: str, script: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert all_pythons.find_python(version) is None
    program(f"python{version}", "echo 'pyenv: command not found' >&2; exit 127")
    assert all_pythons.find_python(version) is None
    program(f"python{version}", f'exec "{sys.executable}" "$@"')
    assert all_pythons.find_python(version) == tmp_path / f"python{version}"
    assert all_pythons.find_python("3.99") is None


def test_versions_that_are_not_found_or_fail_are_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = {"3.11": Path("python3.11"), "3.13": Path("python3.13")}
    monkeypatch.setattr(all_pythons, "find_python", there.get)
    monkeypatch.setattr(all_pythons, "run_suite", lambda python, version, arguments: version == "3.11")
    assert all_pythons.main([]) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "Python 3.11: passed",
        "Python 3.12: not found on the path or among pyenv's versions",
        "Python 3.13: FAILED",
    ]
    assert all_pythons.main(["--only", "3.11"]) == 0
    assert all_pythons.main(["--only", "3.12"]) == 1


def test_issue_forms_and_hooks_can_be_read() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 4
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.name != "config.yml":
            assert {"name", "description", "body"} <= form.keys()
            assert len({field["id"] for field in form["body"]}) == len(form["body"])
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in hooks["repos"]] == ["local"]


def test_the_paper_cites_what_its_bibliography_has() -> None:
    text = (ROOT / "paper" / "paper.md").read_text(encoding="utf-8")
    bibliography = (ROOT / "paper" / "paper.bib").read_text(encoding="utf-8")
    entries = re.findall(r"^@\w+\{(\w+),", bibliography, flags=re.MULTILINE)
    assert len(entries) == len(set(entries)) > 15
    assert set(re.findall(r"@(\w+)", text)) == set(entries)
    for entry in bibliography.split("\n@"):
        assert re.search(r"\b(doi|eprint|url)\s*=", entry), entry
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text, flags=re.DOTALL):
        assert (ROOT / "paper" / picture).is_file(), picture
    for section in ("Summary", "Statement of need", "References"):
        assert f"\n# {section}\n" in text
