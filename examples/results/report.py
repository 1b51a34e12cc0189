"""The tables of docs/results.md, in Markdown, from the long table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from examples.results.maps import path_of
from examples.results.methods import CONTROLS, DRAWN, FULL, ONE_STEP
from ssimpert.analysis import holm, paired_differences, summarize
from ssimpert.analysis.localization.max_box_acc import V2_IOUS
from ssimpert.report import forest_plot, save_figure

SEED = 0
RESAMPLES = 2000
# The columns of each table: a metric and its heading.
AGREEMENT_COLUMNS = {
    "pearson": "CC",
    "spearman": "Spearman",
    "similarity": "SIM",
    "kl_divergence": "KL",
    "nss": "NSS",
    "auc": "AUC",
    "top20_iou": "IoU 20%",
    "energy_share": "in CAM",
}
BENCHMARK_COLUMNS = {
    "insertion": "insertion",
    "deletion": "deletion",
    "pointing": "pointing",
    "localisation error, value": "error, value",
    "localisation error, energy": "error, energy",
    "localisation error, mean": "error, mean",
}
STEP_COLUMNS = {
    "pearson": "CC",
    "spearman": "Spearman",
    "pearson with local std": "CC with local std",
    "energy in object / area": "in object / area",
    "energy in box / area": "in box / area",
}
CONTROL_COLUMNS = {"pearson": "CC", "spearman": "Spearman", "pearson with local std": "CC with local std"}
KINDS = {"rms": "rms", "ssim": "1 - SSIM", "contribution": "g·d", "map": ""}


def number(mean: float, low: float, high: float) -> str:
    """A mean and its interval as ``.48 (.41 to .55)``, without the zero before the point; empty for NaN."""
    if np.isnan(mean):
        return ""
    short = [f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.2f}" for value in (mean, low, high)]
    return f"{short[0]} ({short[1]} to {short[2]})"


def grid(table: pd.DataFrame, methods: list[str], metrics: dict[str, str], kinds: list[str]) -> str:
    """A row for each method and map, a column for each metric: the mean and its 95% interval over images."""
    chosen = table[table.method.isin(methods) & table.metric.isin(list(metrics)) & table["map"].isin(kinds)]
    summary = summarize(chosen, resamples=RESAMPLES, seed=SEED).set_index(["method", "map", "metric"])
    lines = [f"| | map | {' | '.join(metrics.values())} |", "|---|---|" + "---|" * len(metrics)]
    for method in methods:
        for kind in kinds:
            keys = [(method, kind, metric) for metric in metrics]
            if not any(key in summary.index for key in keys):
                continue
            cells = [
                number(*summary.loc[key, ["mean", "low", "high"]].astype(float)) if key in summary.index else ""
                for key in keys
            ]
            lines.append(f"| {method} | {KINDS[kind]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def box_accuracy(folder: Path, method: str, kind: str) -> tuple[float, float, float]:
    """MaxBoxAccV2 and its bootstrap interval. Every resample has its own best thresholds."""
    reached = torch.load(path_of(folder, f"{method} {kind}").with_suffix(".iou"), weights_only=True).numpy()
    right = np.stack([np.nan_to_num(reached, nan=0.0) >= minimum for minimum in V2_IOUS])  # (3, N, 255)
    generator = np.random.default_rng(SEED)
    count = right.shape[1]
    draws = [right[:, generator.integers(count, size=count)].mean(axis=1).max(axis=1).mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(right.mean(axis=1).max(axis=1).mean()), float(low), float(high)


def against_controls(table: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    """Every perturbation minus l2 ascent of equal norm, and minus the photo's deviation; Holm's correction over all."""
    parts = []
    for name in FULL:
        for control in (f"l2 of equal norm to {name}", "local std"):
            if control in set(table.method):
                rows = table[table.method.isin([name, control]) & table.metric.isin(metrics)]
                parts.append(paired_differences(rows, [control], methods=[name], resamples=RESAMPLES, seed=SEED))
    joined = pd.concat(parts, ignore_index=True)
    joined["p_holm"] = holm(joined["p_value"].to_numpy())
    joined["comparisons"] = int(joined["p_value"].notna().sum())
    return joined


def difference_table(differences: pd.DataFrame) -> str:
    """A row for each perturbation, map and metric: the differences from both controls."""
    lines = ["| | map | metric | minus l2 of equal norm | p (Holm) | d_z | minus local std | p (Holm) | d_z |",
             "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for (method, kind, metric), group in differences.groupby(["method", "map", "metric"], sort=False):
        cells = []
        for is_local_std in (False, True):
            row = group[(group.control == "local std") == is_local_std]
            if row.empty:
                cells += ["", "", ""]
                continue
            first = row.iloc[0]
            cells += [number(first.difference, first.low, first.high), f"{first.p_holm:.2g}", f"{first.cohens_dz:.2f}"]
        lines.append(f"| {method} | {KINDS[str(kind)]} | {AGREEMENT_COLUMNS[str(metric)]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(differences: pd.DataFrame, path: Path) -> None:
    """Draw a forest plot of the differences of Pearson correlations, for the rms and contribution maps."""
    chosen = differences[differences["map"].isin(["rms", "contribution"]) & (differences["metric"] == "pearson")]
    # Each perturbation has its own control of equal norm. In the plot all of them have one name.
    equal = chosen["control"].str.startswith("l2 of equal norm")
    chosen = chosen.assign(control=chosen["control"].where(~equal, "l2 of equal norm"))
    save_figure(forest_plot(chosen), path)


def tables(table: pd.DataFrame, folder: Path) -> dict[str, str]:
    """All tables of one model, by name. The forest plot is written into ``folder``."""
    differences = against_controls(table, ["pearson", "spearman"])
    draw(differences, folder / "differences.png")
    full = [*FULL, *(name for name in DRAWN)]
    measured = grid(table, full, BENCHMARK_COLUMNS, list(KINDS)).splitlines()
    measured[0] += " MaxBoxAccV2 |"
    measured[1] += "---|"
    names = {label: kind for kind, label in KINDS.items()}
    for position, line in enumerate(measured[2:], start=2):
        method, label = (cell.strip() for cell in line.split("|")[1:3])
        has_boxes = path_of(folder, f"{method} {names[label]}").with_suffix(".iou").exists()
        measured[position] += f" {number(*box_accuracy(folder, method, names[label]))} |" if has_boxes else " |"
    all_kinds = list(KINDS)
    return {
        "one step": grid(table, [*ONE_STEP, "local std", "gradient"], STEP_COLUMNS, all_kinds),
        "agreement": grid(table, full, AGREEMENT_COLUMNS, all_kinds),
        "benchmarks": "\n".join(measured),
        "controls": grid(table, [*CONTROLS], CONTROL_COLUMNS, all_kinds),
        "differences": difference_table(differences),
        "shift null": shift_table(table, full),
    }  # fmt: skip


def shift_table(table: pd.DataFrame, methods: list[str]) -> str:
    """The number of images whose correlation few circular shifts reach (p <= .05)."""
    chosen = table[(table.metric == "shift p") & table.method.isin(methods)]
    lines = ["| | map | images with p <= .05 |", "|---|---|---|"]
    for (method, kind), group in chosen.groupby(["method", "map"], sort=False):
        lines.append(f"| {method} | {KINDS[str(kind)]} | {int((group.value <= 0.05).sum())} of {len(group)} |")
    return "\n".join(lines)


def fill(page: Path, tables: dict[str, str]) -> None:
    """Put each table between its marks ``<!-- NAME -->`` and ``<!-- end -->`` in a page."""
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        head, mark, tail = text.partition(f"<!-- {name} -->\n")
        if not mark:
            raise SystemExit(f"{page} has no mark for {name!r}")
        text = head + mark + table + "\n" + tail[tail.index("<!-- end -->") :]
    page.write_text(text, encoding="utf-8")
