"""torchvision imports beside a CPU-only torch; other failures are not hidden."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ssimpert.models.torchvision_compat import import_torchvision

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


def test_gives_a_torchvision_with_models_and_transforms() -> None:
    torchvision = import_torchvision()
    assert torchvision is import_torchvision()
    assert callable(torchvision.models.resnet18)
    from torchvision.transforms import v2

    assert v2.Resize(8) is not None


def test_timm_imports_after_it_in_a_fresh_process() -> None:
    load = "from ssimpert.models.torchvision_compat import import_torchvision as t; t()"
    done = _run(f"{load}; import timm; print('fine')")
    assert done.stdout.strip() == "fine", done.stderr


def test_declares_operators_and_imports_everything_again(tmp_path: Path) -> None:
    folder = _fake_torchvision(tmp_path, _NEEDS_OPERATOR)
    code = "from ssimpert.models.torchvision_compat import import_torchvision as t; t()"
    done = _run(code, folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("part imported") == 2


def test_another_error_passes_through_and_declares_nothing(tmp_path: Path) -> None:
    folder = _fake_torchvision(tmp_path, "raise RuntimeError('broken wheel')")
    code = (
        "import ssimpert.models.torchvision_compat as c\n"
        "try: c.import_torchvision()\n"
        "except RuntimeError as error: print(error, c._declared)"
    )
    assert _run(code, folder).stdout.strip() == "broken wheel []"


def test_a_missing_torchvision_is_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError):
        import_torchvision()
