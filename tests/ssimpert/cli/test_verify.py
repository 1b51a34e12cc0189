"""``ssimpert verify``: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ssimpert.data import load_image
from ssimpert.models import Classifier
from tests.ssimpert.cli.small_model import Command

L2 = ("--constraint", "l2", "--effort", "cheap")


@pytest.fixture
def rectified(monkeypatch: pytest.MonkeyPatch) -> Classifier:
    """A small untrained classifier whose layers all have rules, in the place of the model that commands load."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = nn.Sequential(nn.Conv2d(3, 4, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(196, 3))
    classifier = Classifier(
        network, name="small", input_size=32, labels=("ant", "bee", "cat"), mean=(0.5,) * 3, std=(0.5,) * 3
    )
    monkeypatch.setattr("ssimpert.models.load_model", lambda *_, **__: classifier)
    return classifier


def test_verified_image_gives_code_0_and_a_record_with_the_sets_sentence(
    command: Command, rectified: Classifier, tmp_path: Path
) -> None:
    code, out, err = command("verify", "chelsea", *L2, "--radius", "1e-4", "--out", tmp_path)
    assert code == 0, err
    assert "verified" in out
    sentence = "No image within an l2 distance of 0.0001 changes the decision, up to float64 rounding."
    assert sentence in " ".join(out.split())
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["result"]["verdict"] == "verified"
    assert record["result"]["bound"] > 0
    assert len(record["result"]["class_bound"]) == 3
    assert not (tmp_path / "adversarial.npy").exists()


def test_falsified_image_gives_code_3_and_is_written(command: Command, rectified: Classifier, tmp_path: Path) -> None:
    code, out, err = command("verify", "chelsea", *L2, "--radius", "3", "--out", tmp_path, "--json")
    assert code == 3, err
    (record,) = json.loads(out)
    assert record["result"]["verdict"] == "falsified"
    moved = torch.from_numpy(np.load(tmp_path / "adversarial.npy"))
    moved = moved.reshape(1, *moved.shape[-3:])
    assert rectified.label_name(int(rectified(moved).argmax())) == record["result"]["adversarial_label_name"]
    assert record["result"]["adversarial_label_name"] != record["result"]["label_name"]
    picture = load_image(tmp_path / "adversarial.png")
    assert record["file"]["label"] == int(rectified(picture).argmax())
    assert record["file"]["success"] == (record["file"]["label"] != record["result"]["label"])


def test_model_with_a_layer_without_a_rule_is_refused_by_its_name(
    command: Command, small: Classifier, tmp_path: Path
) -> None:
    code, _, err = command("verify", "chelsea", *L2, "--radius", "1e-4", "--out", tmp_path)
    assert code == 1
    assert "layer '1' (Tanh) has no propagation rule" in err
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--constraint", "mean-ssim"), "MeanSSIM on overlapping windows has no certified bound"),
        ((*L2, "--time-limit", "0"), "--time-limit must be positive"),
        ((*L2, "--memory", "0"), "is not a whole number of at least 1"),
        (("--constraint", "product-ssim", "--threshold", "1.5"), "threshold"),
        (("--effort", "huge"), "huge"),
    ],
)
def test_options_out_of_range_are_wrong_usage(
    command: Command, rectified: Classifier, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    code, _, err = command("verify", "chelsea", *words, "--out", tmp_path)
    assert code == 2, err
    assert message in " ".join(err.split())
