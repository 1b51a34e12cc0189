"""How long insertion, deletion, RISE and occlusion take on one core: docs/notes/forward-copies.md.

Run with `python -m benchmarks.forward_passes` (needs the extra `onnx`); two to five minutes. The script prints a table.
With `--record` it replaces benchmarks/results/forward_passes.json.

The image is one photo of 224 pixels, the model efficientnet-lite0, on one thread. torch and the ONNX copy take turns;
times are medians of the wall clock. A single pass of the model is also timed, since machines differ by more than
methods.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import ssimpert
from benchmarks.machine import machine
from benchmarks.real_problems import pin_threads
from benchmarks.script_options import script_parser, write_record
from ssimpert.analysis import gradient_magnitude, insertion_deletion, occlusion, rise

STEPS, MASKS = 28, 1000


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call of ``work``."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure() -> list[dict[str, Any]]:
    """A row for each task: the number of runs, and the median seconds of torch and of the ONNX copy."""
    model = ssimpert.load_model("efficientnet-lite0", device="cpu")
    image = ssimpert.load_image("chelsea", size=model.input_size)
    label = model.predict(image)
    maps = gradient_magnitude(ssimpert.linearize(model, image, label, ssimpert.Untargeted()).gradient)
    copies: list[ssimpert.OnnxClassifier] = []
    export = seconds(lambda: copies.append(ssimpert.onnx_classifier(model, image, threads=1)))
    step = -(-image[0, 0].numel() // STEPS)
    tasks: dict[str, tuple[int, Callable[[Any], object]]] = {
        "one pass": (30, lambda network: network(image)),
        f"insertion and deletion, {STEPS} steps": (
            7,
            lambda network: insertion_deletion(network, image, maps, step=step),
        ),
        f"RISE, {MASKS} masks": (3, lambda network: rise(network, image, label, masks=MASKS)),
        "occlusion": (3, lambda network: occlusion(network, image, label)),
    }
    rows: list[dict[str, Any]] = [{"task": "export, once", "runs": 1, "torch": None, "onnx": export}]
    with torch.no_grad():
        for task, (runs, work) in tasks.items():
            times: dict[str, list[float]] = {"torch": [], "onnx": []}
            for run in range(runs + 1):
                for key, network in (("torch", model), ("onnx", copies[0])):
                    run_seconds = seconds(partial(work, network))
                    if run:  # the first run warms the caches and does not count
                        times[key].append(run_seconds)
            rows.append(
                {"task": task, "runs": runs} | {key: statistics.median(values) for key, values in times.items()}
            )
    return rows


def main(*, record: bool = False) -> None:
    """Measure, write and print."""
    pin_threads()
    rows = measure()
    table = Table("task", "torch, s", "ONNX Runtime, s", title="one image of 224 pixels, one thread")
    for row in rows:
        cells = ("" if row[key] is None else f"{row[key]:.3f}" for key in ("torch", "onnx"))
        table.add_row(row["task"], *cells)
    Console(width=100).print(table)
    write_record("forward_passes", {"machine": machine(), "rows": rows}, record=record, indent=1)


if __name__ == "__main__":
    main(record=script_parser(__doc__, records=True).parse_args().record)
