"""Tables for the terminal: perturbations, least levels, agreement, and the solver methods."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

import solvers
from ssimpert.analysis import Comparison
from ssimpert.cli.recorded_results import RecordedResults
from ssimpert.cli.terminal import cell, table
from ssimpert.perturbation import MinimalBudgetResult, PerturbResult
from ssimpert.report.conditions import conditions, least_window_in_words
from ssimpert.report.names import CAM_NAMES

LabelName = Callable[[int], str]


def perturbation_table(
    names: list[str], results: Sequence[PerturbResult | RecordedResults], label_name: LabelName
) -> Table:
    """A row for each image and perturbation: label and margin before and after, the distances, and the excess.

    The excess says by how much the perturbation lies outside of its own set.
    """
    shown = table("Perturbation", _perturbation_caption(results) + _pictures_note(names, results[0]))
    for heading in ("image", "perturbation", "label: before → after"):
        shown.add_column(cell(heading))
    # The distance of global SSIM balls is shown for these sets only, since a terminal is narrow.
    with_distance = any(isinstance(result.constraint, solvers.GlobalSSIM) for result in results)
    for heading in ("margin", "SSIM", "least", *(["d2"] if with_distance else []), "outside"):
        shown.add_column(heading, justify="right")
    for k, name in enumerate(names):
        for result in results:
            row = result.rows()[k]
            before, after = label_name(row["label_before"]), label_name(row["label_after"])
            shown.add_row(
                cell(Path(name).name),
                cell(row["perturbation"]),
                outcome(before, after, row["success"], _remark(row)),
                cell(f"{row['margin_before']:+.2f} → {row['margin_after']:+.2f}"),
                f"{row['ssim']:.4f}",
                f"{row['min_window_ssim']:.3f}",
                *([_distance(result, row)] if with_distance else []),
                f"{row['violation']:.0e}" if row["violation"] > 0 else "" if math.isnan(row["violation"]) else "0",
            )
    return shown


def _perturbation_caption(results: Sequence[PerturbResult | RecordedResults]) -> str:
    lines = [f"{result.name}: {_conditions(result)}." for result in results]
    lines.append(f"SSIM: the mean. least: {least_window_in_words(results[0].constraint)}.")
    if any(
        result.settings.get("recentred") and isinstance(result.constraint, solvers.GlobalSSIM) for result in results
    ):
        lines.append(
            "d2: the distance to the clean image. Each of the steps taken may add its own distance, so that d2 may "
            "reach what stands below it."
        )
    lines.append("outside: the excess over the set itself; empty where the set moved with the image.")
    lines += _shrink_note(results[0])
    return "\n".join(lines)


def _conditions(result: PerturbResult | RecordedResults) -> str:
    return result.conditions if isinstance(result, RecordedResults) else conditions(result)


def _distance(result: PerturbResult | RecordedResults, row: dict[str, Any]) -> Text:
    """d2, and for a ball of d2 what d2 may add up to: the radius, times the steps where each step has a ball."""
    distance = f"{row['contrast_distance']:.5f}"
    if not isinstance(result.constraint, solvers.GlobalSSIM):
        return cell(distance)
    steps = f"{row['steps']}×" if result.settings.get("recentred") and row["steps"] > 1 else ""  # noqa: RUF001
    return cell(f"{distance} ≤ {steps}{result.constraint.distance:g}")


def _shrink_note(result: PerturbResult | RecordedResults) -> list[str]:
    """Whether successes were drawn back; nothing where all steps went into the margin."""
    if not result.settings.get("stop_at_success", False):
        return []
    if result.settings.get("shrink", False):
        return ["Successes are drawn back to the smallest share of the perturbation that reaches the goal."]
    return ["Successes are shown as found, not drawn back to what the goal needs (--shrink)."]


def _pictures_note(names: list[str], result: PerturbResult | RecordedResults) -> str:
    """Which PNGs are not the rounded results, and which lost the goal; nothing where all are rounded and reach it."""
    if not isinstance(result, RecordedResults) or result.settings.get("quantized", False):
        return ""
    lines = []
    pairs = list(zip(names, result.rows(), result.pictures, strict=True))
    quantized = [Path(name).name for name, _, picture in pairs if picture["pixels"] == "quantized"]
    if quantized:
        lines.append(f"The PNG is quantized, since rounding to 8 bits would undo the change: {', '.join(quantized)}.")
    undone = [Path(name).name for name, row, picture in pairs if row["success"] and not picture["success"]]
    if undone:
        lines.append(f"The 8 bits of the PNG undo the change, only the array has it: {', '.join(undone)}.")
    return "".join(f"\n{line}" for line in lines)


def _remark(row: dict[str, Any]) -> str:
    """Why the image stopped early, and what was lost in the quantisation."""
    return "; ".join(word for word in (row["message"], row.get("note", "")) if word)


def outcome(before: str, after: str, success: bool, message: str) -> Text:
    """The label before and after, with ``message`` as the reason."""
    reason = f" ({message})" if message else ""
    if success:
        return cell(f"{before} → ", (after, "bold"), reason)
    return cell(f"{after}: goal not reached{reason}")


def verification_table(names: list[str], records: Sequence[dict[str, Any]]) -> Table:
    """A row for each image: the verdict, the margin of the clean image, and the bounds on the least margin.

    Args:
        names: the images' names.
        records: what was recorded of them.
    """
    sentences = dict.fromkeys(record["result"]["sentence"] for record in records)
    caption = "bound: over the whole set no margin is below this. found: the least margin seen.\n" + "\n".join(
        sentences
    )
    shown = table("Verification", caption)
    for heading in ("image", "label", "verdict"):
        shown.add_column(cell(heading))
    for heading in ("margin", "bound", "found", "seconds"):
        shown.add_column(heading, justify="right")
    for name, record in zip(names, records, strict=True):
        row = record["result"]
        changed = f" → {row['adversarial_label_name']}" if row["verdict"] == "falsified" else ""
        message = f" ({row['message']})" if row["message"] else ""
        shown.add_row(
            cell(Path(name).name),
            cell(f"{row['label_name']}{changed}"),
            cell((row["verdict"], "bold"), message),
            f"{row['margin']:+.3g}",
            f"{row['bound']:+.3g}",
            f"{row['least_margin_found']:+.3g}",
            f"{row['seconds']:.1f}",
        )
    return shown


def minimal_table(names: list[str], result: MinimalBudgetResult | RecordedResults, label_name: LabelName) -> Table:
    """A row for each image: the least level that changes the label, and the distances at this level."""
    settings = result.settings
    has_set = not str(settings.get("method")).startswith("perceptual_ball")
    began = "of the set in which the search began, " if has_set else ""
    shown = table(
        f"Least level ({settings['level']})",
        f"level: {began}{_conditions(result)}; at most {settings['rounds']} levels, to "
        f"a relative width of {settings['tolerance']:g}.\n"
        f"SSIM: the mean. least window: {least_window_in_words(result.constraint)}.",
    )
    for heading in ("image", "label: before → after"):
        shown.add_column(cell(heading))
    for heading in ("level", "l2 norm", "SSIM", "least window", "rounds"):
        shown.add_column(heading, justify="right")
    for name, row in zip(names, result.rows(), strict=True):
        before, after = label_name(row["label_before"]), label_name(row["label_after"])
        shown.add_row(
            cell(Path(name).name),
            outcome(before, after, row["success"], row["message"]),
            "none" if math.isnan(row["level"]) else f"{row['level']:.4g}",
            f"{row['l2_norm']:.4g}",
            f"{row['ssim']:.6f}",
            f"{row['min_window_ssim']:.6f}",
            str(row["rounds"]),
        )
    return shown


def agreement_table(names: list[str], comparison: Comparison) -> Table:
    """A row for each image and map: its agreement with the class activation map. Controls are shown too."""
    cam = CAM_NAMES[comparison.cam_name]
    shifts = comparison.settings["shifts"]
    note = f"p: of Pearson, by {shifts} circular shifts. All metrics: agreement.parquet." if shifts else None
    shown = table(f"Agreement with {cam} ({comparison.cam_layer})", note)
    for heading in ("image", "map of", "map"):
        shown.add_column(heading)
    for heading in ("Pearson", "p", "Spearman", "IoU 20%"):
        shown.add_column(heading, justify="right")
    for row in comparison.records:
        method = row["perturbation"]
        kind = "" if method.replace(" ", "_").lower() == row["map"] else row["map"]
        shown.add_row(
            cell(Path(names[row["image"]]).name),
            cell(method),
            cell(kind),
            _signed(row["pearson"]),
            _p_value(row["p_values"].get("pearson")),
            _signed(row["spearman"]),
            _signed(row["top20_iou"]),
        )
    return shown


def _signed(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:+.3f}"


def _p_value(value: float | None) -> str:
    if value is None:
        return ""
    return "n/a" if math.isnan(value) else f"{value:.3f}"


def methods_table() -> Table:
    """A row for each solver method: the constraint sets that it takes, and what it is."""
    shown = table("Solver methods", show_lines=True)
    for heading in ("method", "kind", "constraint sets", "what it is"):
        shown.add_column(heading)
    for info in solvers.methods():
        sets = " or ".join(sorted(info.required or info.any_of))
        optional = f" (with {', '.join(sorted(info.optional))})" if info.optional else ""
        missing = info.unavailable()
        shown.add_row(
            cell(info.name),
            "exact" if info.exact else "iterative",
            cell(sets + optional),
            cell(info.description, *([(f" Not here: {missing}.", "bold")] if missing else [])),
        )
    return shown
