"""How long insertion, deletion, RISE and occlusion take on one core: docs/notes/forward-copies.md.

Run with `python -m benchmarks.forward_passes` (needs the extra `onnx`); two to five minutes. Prints a table and writes
benchmarks/results/forward_passes.json.

One photo of 224 pixels, efficientnet-lite0, one thread; torch and the ONNX copy take turns, medians by the wall. A bare
pass of the model stands beside, since machines differ by more than methods do.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import ssimpert
from benchmarks.machine import machine
from benchmarks.real_problems import pin_threads
from ssimpert.analysis import gradient_magnitude, insertion_deletion, occlusion, rise

RESULTS = Path(__file__).parent / "results" / "forward_passes.json"
STEPS, MASKS = 28, 1000


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure() -> list[dict[str, Any]]:
    """One row for each task: median seconds by torch and by the ONNX copy, and of what runs."""
    model = ssimpert.load_model("efficientnet-lite0", device="cpu")
    image = ssimpert.load_image("chelsea", size=model.input_size)
    label = model.predict(image)
    maps = gradient_magnitude(ssimpert.linearize(model, image, label, ssimpert.Untargeted()).gradient)
    copies: list[ssimpert.OnnxClassifier] = []
    export = seconds(lambda: copies.append(ssimpert.onnx_classifier(model, image, threads=1)))
    step = -(-image[0, 0].numel() // STEPS)
    tasks: dict[str, tuple[int, Callable[[Any], object]]] = {
        "one pass": (30, lambda passed: passed(image)),
        f"insertion and deletion, {STEPS} steps": (
            7,
            lambda passed: insertion_deletion(passed, image, maps, step=step),
        ),
        f"RISE, {MASKS} masks": (3, lambda passed: rise(passed, image, label, masks=MASKS)),
        "occlusion": (3, lambda passed: occlusion(passed, image, label)),
    }
    rows: list[dict[str, Any]] = [{"task": "export, once", "runs": 1, "torch": None, "onnx": export}]
    with torch.no_grad():
        for task, (runs, work) in tasks.items():
            taken: dict[str, list[float]] = {"torch": [], "onnx": []}
            for run in range(runs + 1):
                for key, passed in (("torch", model), ("onnx", copies[0])):
                    took = seconds(partial(work, passed))
                    if run:  # not the first, which warms caches
                        taken[key].append(took)
            rows.append({"task": task, "runs": runs} | {key: statistics.median(value) for key, value in taken.items()})
    return rows


def main() -> None:
    pin_threads()
    rows = measure()
    RESULTS.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n", encoding="utf-8")
    table = Table("task", "torch, s", "ONNX Runtime, s", title="one image of 224 pixels, one thread")
    for row in rows:
        times = ("" if row[key] is None else f"{row[key]:.3f}" for key in ("torch", "onnx"))
        table.add_row(row["task"], *times)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
