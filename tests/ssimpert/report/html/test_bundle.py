"""The script and style sheet that reports contain are the ones that were built from the pinned packages."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from ssimpert.report.html import bundle

ROOT = Path(__file__).parents[4]
ASSETS = ROOT / "report_assets"
LOCK = json.loads((ASSETS / "package-lock.json").read_text(encoding="utf-8"))["packages"]


def test_sources_and_bundle_are_those_of_the_last_build() -> None:
    sums = (ASSETS / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    paths = {line[66:]: line[:64] for line in sums}
    for path, digest in paths.items():
        found = hashlib.sha256((ROOT / path).read_bytes()).hexdigest()
        assert found == digest, (
            f"{path} has changed; run 'npm ci --ignore-scripts' and 'npm run build' in report_assets"
        )
    sources = {f"report_assets/src/{path.name}" for path in (ASSETS / "src").iterdir()}
    assert sources <= set(paths)
    assert {"ssimpert/report/html/bundle/report.js", "ssimpert/report/html/bundle/report.css"} <= set(paths)


def test_every_package_is_pinned_with_its_checksum() -> None:
    wanted = json.loads((ASSETS / "package.json").read_text(encoding="utf-8"))
    for name, version in (wanted["dependencies"] | wanted["devDependencies"]).items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), (name, version)
        assert LOCK[f"node_modules/{name}"]["version"] == version
    assert all("integrity" in entry for path, entry in LOCK.items() if path)


def test_the_licence_of_every_package_in_the_bundle_is_beside_it() -> None:
    licences = (ROOT / "ssimpert/report/html/bundle/LICENSES.txt").read_text(encoding="utf-8")
    for name in json.loads((ASSETS / "package.json").read_text(encoding="utf-8"))["dependencies"]:
        entry = LOCK[f"node_modules/{name}"]
        assert f"{name} {entry['version']}, {entry['license']} licence" in licences
    assert licences.count("Permission is hereby granted") == 2


def test_the_bundle_can_stand_within_a_page_and_names_no_host() -> None:
    for text in (bundle.script(), bundle.style_sheet()):
        assert "</" not in re.sub(r"</(?!script|style)", "", text, flags=re.IGNORECASE)
        assert "\r" not in text
        assert set(re.findall(r"https?://[\w./-]+", text)) <= {"http://www.w3.org/2000/svg"}
        assert "sourceMappingURL" not in text
    assert not re.findall(r"url\((?!['\"]?data:)", bundle.style_sheet())
