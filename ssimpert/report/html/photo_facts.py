"""The numbers of one photo, with their units."""

from __future__ import annotations

from typing import Any

from ssimpert.report.html.numbers_in_words import index, number
from ssimpert.report.html.photo_words import label_text
from ssimpert.report.html.view import Fact, FactTable


def facts_of(record: dict[str, Any]) -> tuple[FactTable, ...]:
    """The numbers of a photo: what came out, how far the images are apart, and how the perturbation was found."""
    result, file = record["result"], record.get("file") or {}
    labels = [
        Fact("label of the photo", label_text(result, "before")),
        Fact("label of the perturbed photo", label_text(result, "after")),
        Fact("goal reached", "yes" if result["success"] else "no"),
        Fact("margin before", number(result["margin_before"], "logits")),
        Fact("margin after", number(result["margin_after"], "logits")),
    ]
    if file:
        reached = "yes" if file.get("success") else "no"
        labels.append(
            Fact(
                "8-bit PNG: label, margin",
                f"{file.get('label_name', file.get('label'))}, {number(file.get('margin'), 'logits')} "
                f"(goal reached: {reached})",
            )
        )
    distances = [
        Fact("mean SSIM (Gaussian 11x11, stride 1)", index(result.get("ssim"))),
        Fact(f"least SSIM of a window ({_least_window(record)})", index(result.get("min_window_ssim"))),
        Fact("contrast distance d2", number(result.get("contrast_distance"))),
        Fact("l2 norm", number(result.get("l2_norm"), "of the pixel range")),
        Fact("largest change of a pixel", number(result.get("linf_norm"), "of the pixel range")),
        Fact("excess over the set", number(result.get("violation"))),
    ]
    return (
        FactTable("Labels and margins", tuple(labels)),
        FactTable("Distance from the photo", tuple(distances)),
        FactTable("How it was found", tuple(_search_facts(record))),
    )


def _least_window(record: dict[str, Any]) -> str:
    """Which windows the least one is of: those of the set, or the standard ones, always at stride 1."""
    constraint = (record.get("settings") or {}).get("constraint")
    constraint = constraint if isinstance(constraint, dict) else {}
    window = constraint.get("window")
    if not isinstance(window, dict) or constraint.get("kind") not in ("WindowSSIM", "ProductSSIM"):
        return "Gaussian 11x11, stride 1"
    shape = "uniform" if window.get("sigma") is None else f"Gaussian, sigma {window['sigma']:g}"
    return f"{shape} {window['size']}x{window['size']}, stride 1"


def _search_facts(record: dict[str, Any]) -> list[Fact]:
    result, history = record["result"], record.get("history") or []
    facts = []
    if result.get("level") is not None:
        facts += [
            Fact("least level found", f"{number(result['level'])} ({result.get('level_unit', 'level')})"),
            Fact("largest level that failed", number(result.get("failed_level"))),
            Fact("levels tried", number(result.get("rounds"))),
        ]
    facts.append(Fact("steps taken", number(result.get("steps"))))
    if history and history[-1].get("rel_gap") is not None:
        facts.append(
            Fact("last step's certified gap", f"{number(history[-1]['rel_gap'])} ({history[-1].get('status', '')})")
        )
    if result.get("certified"):
        facts.append(Fact("certificates speak of", str(result["certified"])))
    share = result.get("shrink_share")
    if isinstance(share, float) and share < 1:
        facts.append(Fact("drawn back to the share", number(share)))
    facts.append(Fact("time", number(record.get("seconds"), "s", 3)))
    if result.get("message"):
        facts.append(Fact("message", str(result["message"])))
    notes = (record.get("photo") or {}).get("notes") or []
    if notes:
        facts.append(Fact("photo", "; ".join(map(str, notes))))
    if record.get("cam_layer"):
        facts.append(Fact("layer of the class activation map", str(record["cam_layer"])))
    return facts
