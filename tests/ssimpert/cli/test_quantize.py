"""``--quantize``, and the ``file`` block of result.json: the numbers are those of the PNG."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import structural_similarity

import ssimpert
from ssimpert import cli
from ssimpert.models import Classifier
from tests.ssimpert.cli.small_model import SIDE

WINDOWS = ("--constraint", "window-ssim", "--window-size", "7", "--stride", "1", "--steps", "1", "--eps-rel", "3e-2")


def record_of(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *words: str,
    photo: str = "rocket",
) -> dict[str, object]:
    """Run ``ssimpert perturb`` on a photo with ``words``; the record that it prints and writes."""
    monkeypatch.setattr("sys.argv", ["ssimpert", "perturb", photo, *words, "--out", str(folder), "--json"])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    captured = capsys.readouterr()
    assert not exit_.value.code, captured.err
    (record,) = json.loads(captured.out)
    assert record == json.loads((folder / "result.json").read_text())
    assert isinstance(record, dict)
    return record


def pixels_of(folder: Path) -> np.ndarray:
    with Image.open(folder / "adversarial.png") as picture:
        return np.asarray(picture).astype(np.float64) / 255


def similarity(pixels: np.ndarray, **options: object) -> tuple[float, np.ndarray]:
    clean = ssimpert.load_image("rocket", size=SIDE, dtype=torch.float64)[0].permute(1, 2, 0).numpy()
    kind = {"use_sample_covariance": False, "data_range": 1, "channel_axis": -1, "full": True}
    mean, full = structural_similarity(clean, pixels, **kind, **options)
    return float(mean), full


@pytest.mark.parametrize("option", ["--quantize", "--no-quantize"])
def test_the_file_block_is_what_others_measure_on_the_png(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    small: Classifier,
    option: str,
) -> None:
    record = record_of(capsys, monkeypatch, tmp_path, *WINDOWS, option, "--no-shrink")
    pixels, file, result = pixels_of(tmp_path), record["file"], record["result"]
    assert isinstance(file, dict)
    assert isinstance(result, dict)
    with torch.no_grad():
        logits = small(torch.from_numpy(pixels).permute(2, 0, 1)[None].float())
    assert file["label"] == int(logits.argmax())
    assert file["label_name"] == small.label_name(int(logits.argmax()))
    assert file["success"] == (file["label"] != result["label_before"])
    mean, _ = similarity(pixels, gaussian_weights=True, sigma=1.5)
    assert file["ssim"] == pytest.approx(mean, abs=1e-6)
    _, full = similarity(pixels, win_size=7)
    least = full[3:-3, 3:-3].min()
    assert file["min_window_ssim"] == pytest.approx(least, abs=1e-6)
    array = np.load(tmp_path / "adversarial.npy")[0].transpose(1, 2, 0)
    if option == "--quantize":
        assert file["success"] is True
        assert least >= 0.95
        assert result["verdict"] == "kept"
        assert np.array_equal(array, pixels.astype(np.float32))
        for name in ("ssim", "min_window_ssim", "contrast_distance"):
            assert file[name] == result[name]
    else:
        assert least < 0.95  # what rounding costs is on record
        assert result["min_window_ssim"] > 0.95 - 1e-6
        assert np.abs(array - pixels).max() <= 0.5 / 255 + 1e-6
        assert "verdict" not in result


def test_what_can_not_be_kept_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Half a grid step: rounding leaves nothing of it, and there is no room to regain it.
    words = ("--constraint", "linf", "--radius", "0.0019", "--quantize")
    monkeypatch.setattr("sys.argv", ["ssimpert", "perturb", "rocket", *words, "--out", str(tmp_path)])
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    captured = capsys.readouterr()
    assert exit_.value.code == 3, captured.err
    assert "the margin fell from" in captured.out
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["result"]["success"] is False
    assert record["file"]["success"] is False
    assert record["result"]["verdict"] == "kept"
    assert record["result"]["float_margin"] > 0


def label_of(small: Classifier, pixels: np.ndarray) -> int:
    with torch.no_grad():
        return int(small(torch.from_numpy(pixels)[None].float()).argmax())


@pytest.mark.parametrize(("option", "pixels"), [((), "quantized"), (("--no-quantize",), "rounded")])
def test_a_tight_perturbation_is_quantized_for_the_png_alone(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    small: Classifier,
    option: tuple[str, ...],
    pixels: str,
) -> None:
    record = record_of(capsys, monkeypatch, tmp_path, "--constraint", "l2", "--steps", "3", *option, photo="chelsea")
    result, file = record["result"], record["file"]
    assert isinstance(result, dict)
    assert isinstance(file, dict)
    array, picture = np.load(tmp_path / "adversarial.npy")[0], pixels_of(tmp_path).transpose(2, 0, 1)
    # The result is the exact one, in the array and in the record, whatever the PNG is.
    assert label_of(small, array) == result["label_after"] != result["label_before"]
    assert result["shrink_share"] < 1
    assert "verdict" not in result
    assert np.abs(array * 255 - (array * 255).round()).max() > 0.1
    assert file["pixels"] == pixels
    assert file["label"] == label_of(small, picture)
    if pixels == "quantized":
        assert file["success"] is True
        assert file["label"] != result["label_before"]
        assert np.linalg.norm(picture - array) > 0
    else:
        assert file["success"] is False
        assert np.array_equal(picture, (array.astype(np.float64) * 255).round() / 255)


def test_the_table_says_which_pngs_are_not_the_rounded_results(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small: Classifier
) -> None:
    for option, words in (((), "The PNG is quantized"), (("--no-quantize",), "only the array has it: chelsea.")):
        out = tmp_path / f"out{len(option)}"
        monkeypatch.setattr(
            "sys.argv", ["ssimpert", "perturb", "chelsea", "--constraint", "l2", *option, "--out", str(out)]
        )
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit):
            cli.main()
        assert words in " ".join(capsys.readouterr().out.split())
