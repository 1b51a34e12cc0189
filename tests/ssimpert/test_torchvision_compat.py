"""torchvision imports beside a CPU-only torch once ssimpert was imported; other failures are not hidden."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ssimpert  # noqa: F401
from ssimpert.torchvision_compat import mend_torchvision

_NEEDS_OPERATOR = """
import sys
from torchvision import part
import torch
try:
    torch.ops.torchvision.nms.default, torch.ops.torchvision.qnms.default
except AttributeError:
    raise RuntimeError("operator torchvision::nms does not exist") from None
"""


def _run(code: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    prefix = "" if folder is None else f"import sys; sys.path.insert(0, {str(folder)!r})\n"
    return subprocess.run([sys.executable, "-c", prefix + code], capture_output=True, text=True, check=False)


def _fake_torchvision(folder: Path, body: str) -> Path:
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(body)
    (package / "part.py").write_text("import sys\nprint('part imported')\n")
    return folder


def test_torchvision_and_timm_import_once_the_package_was_imported() -> None:
    code = (
        "import sys, ssimpert\n"
        "assert 'torch' not in sys.modules and 'torchvision' not in sys.modules\n"
        "import torchvision, timm\n"
        "from torchvision.transforms import v2\n"
        "print(torchvision.models.resnet18.__name__, v2.Resize(8).size, timm.is_model('resnet18'))"
    )
    done = _run(code)
    assert done.stdout.strip() == "resnet18 [8] True", done.stderr


def test_declares_operators_and_imports_everything_again(tmp_path: Path) -> None:
    folder = _fake_torchvision(tmp_path, _NEEDS_OPERATOR)
    done = _run("import ssimpert, torchvision\nassert ssimpert.torchvision_compat.is_mended()", folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("part imported") == 2


def test_an_import_that_failed_before_the_package_was_imported_is_mended_too(tmp_path: Path) -> None:
    folder = _fake_torchvision(tmp_path, _NEEDS_OPERATOR)
    code = "try: import torchvision\nexcept RuntimeError: print('failed')\nimport ssimpert, torchvision\nprint('fine')"
    done = _run(code, folder)
    assert done.stdout.split() == ["part", "imported", "failed", "part", "imported", "fine"], done.stderr


def test_another_error_passes_through_and_declares_nothing(tmp_path: Path) -> None:
    folder = _fake_torchvision(tmp_path, "raise RuntimeError('broken wheel')")
    code = (
        "import ssimpert\n"
        "try: import torchvision\n"
        "except RuntimeError as error: print(error, ssimpert.torchvision_compat.is_mended())"
    )
    assert _run(code, folder).stdout.strip() == "broken wheel False"


def test_a_missing_torchvision_is_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError):
        import torchvision  # noqa: F401


def test_the_finder_is_there_once() -> None:
    before = list(sys.meta_path)
    mend_torchvision()
    assert sys.meta_path == before
