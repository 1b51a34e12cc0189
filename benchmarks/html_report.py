"""Size, load time, scrolling and memory of a report of many photos: docs/concepts/report.md.

Run with `python -m benchmarks.html_report` (needs the extra `browser`, and Chromium); about two minutes. The results
are made up: cuts of the sample photos at 224 pixels, white noise as perturbations, and eleven maps of smoothed noise
for each photo. The script prints a table. With `--record` it replaces benchmarks/results/html_report.json.

Frames are measured in the page while it scrolls from its top to its end, 120 pixels a frame (7,200 pixels a second at
60 frames a second). On a busy machine frames are late; the processor time of the page's main thread is given beside
them. Memory is the proportional share of all processes of the browser.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter

from benchmarks.machine import machine
from benchmarks.script_options import script_parser, write_record
from ssimpert.data import load_image, samples
from ssimpert.report.html.page import write_report
from ssimpert.report.html.report_of_run import run_report
from tests.ssimpert.report.html import chromium
from tests.ssimpert.report.html.small_results import record_of

PHOTOS, SIDE, STRIDE = 200, 224, 7
MAPS = (
    *(f"{method}/{kind}" for method in ("WindowSSIM", "l2 control") for kind in ("rms", "ssim", "contribution")),
    "gradient magnitude/gradient_magnitude",
    "local std/local_std",
    "local variance/local_variance",
    "smooth_grad/smooth_grad",
)
PIXELS_A_FRAME, SLOW_FRAME = 120, 34.0  # milliseconds: a frame of 60 a second was left out

SCROLL = """async step => {
    const times = [];
    await new Promise(done => {
        const frame = now => {
            times.push(now);
            window.scrollBy(0, step);
            const end = window.scrollY + window.innerHeight >= document.documentElement.scrollHeight - 2;
            if (end) done(); else requestAnimationFrame(frame);
        };
        requestAnimationFrame(frame);
    });
    return times;
}"""
FIRST_PICTURE = (
    "() => document.querySelector('img[slot=second]')?.naturalWidth > 1 && document.querySelector('.tabulator-row')"
)


def photo(number: int) -> torch.Tensor:
    """The clean photo (1, 3, S, S) of a number: a cut of a sample, other for each number."""
    names = [entry.name for entry in samples() if entry.kind == "photo"]
    image = load_image(names[number % len(names)])
    top, left = (number * STRIDE % (size - SIDE) for size in image.shape[-2:])
    return image[:, :3, top : top + SIDE, left : left + SIDE]


def write_results(folder: Path, count: int) -> None:
    """A folder of results of ``compare`` for ``count`` photos."""
    generator = np.random.default_rng(0)
    for number in range(count):
        place = folder / str(number)
        place.mkdir(parents=True)
        noise = generator.normal(0, 0.02, (1, 3, SIDE, SIDE))
        np.save(place / "adversarial.npy", np.clip(photo(number).numpy() + noise, 0, 1).astype(np.float32))
        (place / "adversarial.png").write_bytes(b"not looked at")
        smooth = np.kron(generator.random((1, 7, 7)), np.ones((1, 32, 32))).astype(np.float32)
        noise_of_maps = generator.random((len(MAPS), SIDE, SIDE)) ** 4
        maps = {name: gaussian_filter(values, 2.0)[None] for name, values in zip(MAPS, noise_of_maps, strict=True)}
        np.savez(place / "maps.npz", cam=smooth, **maps)
        row = record_of(1, "")["agreement"][0]
        rows = [row | dict(zip(("perturbation", "map"), name.split("/"), strict=True)) for name in MAPS]
        record = record_of(1, f"photo {number}.png", agreement=rows)
        record["result"]["l2_norm"] = float(number)
        (place / "result.json").write_text(json.dumps(record), encoding="utf-8")
    run = {"command": "compare", "photos": {str(number): {"image": f"photo {number}.png"} for number in range(count)}}
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")


def memory_megabytes(browser: Any) -> float:
    """The proportional share of memory of all processes of the browser."""
    session = browser.new_browser_cdp_session()
    pids = [entry["id"] for entry in session.send("SystemInfo.getProcessInfo")["processInfo"]]
    session.detach()
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def main_thread_clock(page: Any) -> Callable[[], float]:
    """The processor time of the page's main thread so far, in seconds; other programs on the machine do not count."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def read() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return float(next(entry["value"] for entry in metrics if entry["name"] == "TaskDuration"))

    return read


def measure(count: int) -> dict[str, Any]:
    """All figures of a report of ``count`` photos."""
    with tempfile.TemporaryDirectory() as name, chromium.running() as browser:
        folder = Path(name)
        write_results(folder, count)
        began = time.perf_counter()
        path = folder / "report.html"
        write_report(run_report(folder, lambda record, size: photo(int(record["result"]["l2_norm"]))), path)
        written, size = time.perf_counter() - began, path.stat().st_size
        empty = memory_megabytes(browser)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        processor = main_thread_clock(page)
        began = time.perf_counter()
        page.goto(path.as_uri())
        page.wait_for_function(FIRST_PICTURE)
        loaded = time.perf_counter() - began
        loaded_cpu = processor()
        at_start = memory_megabytes(browser) - empty
        times = page.evaluate(SCROLL, PIXELS_A_FRAME)
        scrolled_cpu = processor() - loaded_cpu
        at_end = memory_megabytes(browser) - empty
    frames = [later - sooner for sooner, later in pairwise(times)]
    return {
        "photos": count,
        "browser": browser.version,
        "written_s": round(written, 1),
        "size_mb": round(size / 1e6, 1),
        "loaded_s": round(loaded, 2),
        "loaded_cpu_s": round(loaded_cpu, 2),
        "frames": len(frames),
        "frame_median_ms": round(statistics.median(frames), 1),
        "frame_p99_ms": round(float(np.percentile(frames, 99)), 1),
        "frame_cpu_ms": round(1000 * scrolled_cpu / len(frames), 1),
        "slow_frames": sum(frame > SLOW_FRAME for frame in frames),
        "memory_at_start_mb": round(at_start),
        "memory_at_end_mb": round(at_end),
    }


def main(*, record: bool = False) -> None:
    """Measure, write and print."""
    rows = [measure(count) for count in (20, PHOTOS)]
    table = Table(*rows[0], title="reports of photos of 224 pixels, eleven maps each")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=180).print(table)
    write_record("html_report", {"machine": machine(), "rows": rows}, record=record)


if __name__ == "__main__":
    main(record=script_parser(__doc__, records=True).parse_args().record)
