"""A folder of results, written by hand: flat photos of 32x32 pixels, so that every pixel of a report is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

SIDE = 32
CONDITIONS = "SSIM ≥ 0.95 in every window (8x8 uniform, stride 8, border full; luminance 0.001), at most 20 steps"

METHOD = "WindowSSIM"


def photo_of(number: int) -> Tensor:
    """The clean photo (1, 3, S, S): one colour, other for each photo."""
    return torch.tensor([200, 80 + 10 * number, 40]).div(255).view(1, 3, 1, 1).repeat(1, 1, SIDE, SIDE)


def perturbed_of(number: int, change: int = 40) -> Tensor:
    """The perturbed photo: ``change`` grey levels less red, and more blue, in all pixels."""
    return photo_of(number) + torch.tensor([-change, 0, change]).div(255).view(1, 3, 1, 1)


def record_of(number: int, name: str, **changes: Any) -> dict[str, Any]:
    """The record of a photo; ``changes`` replace entries."""
    checks = {"iteration": [5, 10], "seconds": [0.1, 0.2], "objective": [1.0, 1.4], "bound": [2.0, 1.5]}
    step = {"image": 0, "label": 1, "step_length": 1.0, "rel_gap": 1e-4, "status": "optimal", "seconds": 0.3}
    row = {"image": 0, "perturbation": METHOD, "pearson": 0.1 * number, "nss": None}
    row |= {"p_values": {"pearson": 0.01, "spearman": 0.02}, "reasons": {"nss": "the map is constant"}}
    return {
        "image": name,
        "model": "small",
        "conditions": CONDITIONS,
        "settings": {"constraint": {"kind": "WindowSSIM", "window": {"size": 8, "sigma": None}}},
        "photo": {"sha256": "0", "notes": []},
        "result": {
            "success": number % 2 == 1,
            "label_before": 0,
            "label_after": 1,
            "label_before_name": "ant",
            "label_after_name": f"bee {number}",
            "margin_before": -1.0,
            "margin_after": 0.5 * number,
            "ssim": 0.99,
            "min_window_ssim": 0.95,
            "contrast_distance": 0.01,
            "l2_norm": 1.0 + number,
            "linf_norm": 40 / 255,
            "violation": None,
            "steps": 2,
            "certified": "global bound",
            "message": "",
        },
        "file": {"success": True, "label": 1, "label_name": "bee", "margin": 0.4},
        "files": ["adversarial.npy", "adversarial.png", "maps.npz"],
        "history": [step | {"step": 1, "margin": -0.2, "checks": checks}, step | {"step": 2, "margin": 0.5}],
        "seconds": 1.5,
        "cam": "grad_cam",
        "cam_layer": "features.3",
        "agreement": [row | {"map": "rms"}, row | {"map": "ssim"}],
        "run": {"command": "compare"},
        **changes,
    }


def write_photo(folder: Path, number: int, name: str, **changes: Any) -> None:
    """The files of one photo."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "adversarial.npy", perturbed_of(number).numpy().astype(np.float32))
    (folder / "adversarial.png").write_bytes(b"not looked at")
    ramp = np.linspace(0, 1, SIDE * SIDE, dtype=np.float32).reshape(1, SIDE, SIDE)
    np.savez(
        folder / "maps.npz", cam=ramp, **{f"{METHOD}/rms": ramp[:, ::-1], "local std/local_std": np.zeros_like(ramp)}
    )
    (folder / "result.json").write_text(json.dumps(record_of(number, name, **changes)), encoding="utf-8")


def write_run(folder: Path, names: list[str]) -> Path:
    """A run of photos with these names, in folders 1, 2, ...; returns ``folder``."""
    for number, name in enumerate(names, start=1):
        write_photo(folder / str(number), number, name)
    run = {"command": "compare", "options": {"model": "small", "steps": 20}, "versions": {"ssimpert": "0.1.0"}}
    run["photos"] = {str(number): {"image": name} for number, name in enumerate(names, start=1)}  # type: ignore[assignment]
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return folder


def find_photo(record: dict[str, Any], size: int) -> Tensor:
    """The clean photo of a record of :func:`record_of`."""
    assert size == SIDE
    number = round(record["result"]["l2_norm"] - 1)
    return photo_of(number)
