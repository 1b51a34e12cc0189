"""Which tests run which line, and how long each test takes: one run of the tests under coverage."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coverage
import pytest


@dataclass(frozen=True)
class CoveringTests:
    """Attributes:
    tests: for a file, and a line of it, the tests that run the line; line 0 stands for any line of the file.
    seconds: how long each test took.
    """

    tests: dict[str, dict[int, list[str]]]
    seconds: dict[str, float]

    def of(self, path: str, line: int) -> list[str]:
        """The tests that run the line, the shortest first. Compiled lines are not seen: they get the file's tests."""
        lines = self.tests.get(path, {})
        return sorted(lines.get(line) or lines.get(0, []), key=lambda test: self.seconds.get(test, 0.0))

    def write(self, file: Path) -> None:
        """As JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"tests": self.tests, "seconds": self.seconds}))

    @classmethod
    def read(cls, file: Path) -> CoveringTests:
        """What :meth:`write` wrote."""
        record = json.loads(file.read_text())
        tests = {path: {int(line): names for line, names in lines.items()} for path, lines in record["tests"].items()}
        return cls(tests, record["seconds"])


class _ContextPerTest:
    """A pytest plugin that tells coverage which test runs."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self.measured = measured
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.measured.switch_context(item.nodeid)
        started = time.perf_counter()
        result: Any = yield
        self.seconds[item.nodeid] = time.perf_counter() - started
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


def measure(root: Path, package: str, arguments: list[str]) -> CoveringTests:
    """Run pytest with ``arguments`` in ``root``, and see which lines of ``package`` each test runs.

    A test that fails even so, as one may that counts on its speed, is left out and named.
    """
    measured = coverage.Coverage(data_file=None, source=[str(root / package)])
    plugin = _ContextPerTest(measured)
    measured.start()
    pytest.main([*arguments, "-q", "-p", "no:cacheprovider", "-p", "no:xdist"], plugins=[plugin])
    measured.stop()
    for name in plugin.failed:
        print(f"left out, as it fails under coverage: {name}")
    data = measured.get_data()
    tests: dict[str, dict[int, list[str]]] = {}
    for file in data.measured_files():
        path = str(Path(file).relative_to(root))
        lines: dict[int, list[str]] = defaultdict(list)
        anywhere: set[str] = set()
        for line, names in data.contexts_by_lineno(file).items():
            named = [name for name in names if name and name not in plugin.failed]
            lines[line] = named
            anywhere.update(named)
        lines[0] = sorted(anywhere)
        tests[path] = dict(lines)
    return CoveringTests(tests, plugin.seconds)
