"""The tables of a run: a row for each photo, and how far the maps agree with the class activation map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ssimpert.analysis.statistics.summaries import summarize
from ssimpert.report.html.numbers_in_words import finite, set_and_steps
from ssimpert.report.html.photo_words import label_text
from ssimpert.report.html.result_folder import StoredPhoto
from ssimpert.report.html.view import Column, Table, Value
from ssimpert.report.names import map_name, metric_name

# What an agreement row has beside the metrics.
_NOT_METRICS = ("image", "perturbation", "map", "p_values", "reasons")
PIXELS = "of the pixel range"


def photo_table(photos: Sequence[StoredPhoto], anchors: Sequence[str], conditions: str) -> Table:
    """A row for each photo; columns without any value are left out."""
    columns: list[tuple[Column, Callable[[StoredPhoto], Value]]] = [
        (Column("photo", link=1), lambda photo: photo.name),
        (Column("anchor", hidden=True), lambda photo: ""),
        (Column("label before"), lambda photo: label_text(photo.result, "before")),
        (Column("label after"), lambda photo: label_text(photo.result, "after")),
        (Column("goal reached"), lambda photo: "yes" if photo.result["success"] else "no"),
        (Column("PNG reaches goal"), _png_outcome),
        *[
            (Column(title, "number", unit, digits), _result_number(key))
            for key, title, unit, digits in (
                ("level", "least level", _level_unit(photos), 4),
                ("margin_before", "margin before", "logits", 4),
                ("margin_after", "margin after", "logits", 4),
                ("ssim", "mean SSIM", "", 6),
                ("min_window_ssim", "least SSIM of a window", "", 6),
                ("contrast_distance", "contrast distance d2", "", 4),
                ("l2_norm", "l2 norm", PIXELS, 4),
                ("linf_norm", "largest change", PIXELS, 4),
                ("steps", "steps", "", 4),
            )
        ],
        (Column("time", "number", "s", 3), lambda photo: finite(photo.record.get("seconds"))),
    ]
    rows = [[of_photo(photo) for _, of_photo in columns] for photo in photos]
    for row, anchor in zip(rows, anchors, strict=True):
        row[1] = anchor
    kept = [
        k for k, (column, _) in enumerate(columns) if column.hidden or any(row[k] not in (None, "") for row in rows)
    ]
    return Table(
        name="photos",
        title="Photos",
        caption=f"A row for each photo. {set_and_steps(conditions)}",
        columns=tuple(columns[k][0] for k in kept),
        rows=[[row[k] for k in kept] for row in rows],
    )


def agreement_tables(photos: Sequence[StoredPhoto], anchors: Sequence[str], conditions: str) -> tuple[Table, ...]:
    """The means over the photos, where there are several, and a row for each photo and map; none without maps."""
    compared = [
        (photo, anchor)
        for photo, anchor in zip(photos, anchors, strict=True)
        if isinstance(photo.record.get("agreement"), list) and photo.record["agreement"]
    ]
    if not compared:
        return ()
    record = compared[0][0].record
    metrics = [key for key in record["agreement"][0] if key not in _NOT_METRICS]
    against = (
        f"Agreement with {map_name(str(record.get('cam', 'grad_cam')))}, layer {record.get('cam_layer', 'unknown')}."
    )
    caption = f"{against} {set_and_steps(conditions)}"
    tables = [_agreement_of_photos(compared, metrics, caption)]
    if len(compared) > 1:
        tables.insert(0, _mean_agreement(compared, metrics, caption))
    return tuple(tables)


def _agreement_of_photos(compared: Sequence[tuple[StoredPhoto, str]], metrics: list[str], caption: str) -> Table:
    columns = (
        Column("photo", link=1),
        Column("anchor", hidden=True),
        Column("method"),
        Column("map"),
        *(Column(metric_name(metric), "number", digits=3) for metric in metrics),
        Column("p-value of Pearson", "number", digits=3),
        Column("p-value of Spearman", "number", digits=3),
        Column("why a number is missing"),
    )
    rows: list[list[Value]] = []
    for photo, anchor in compared:
        for row in photo.record["agreement"]:
            p_values, reasons = row.get("p_values") or {}, row.get("reasons") or {}
            rows.append(
                [
                    photo.name,
                    anchor,
                    str(row["perturbation"]),
                    map_name(str(row["map"])),
                    *(finite(row.get(metric)) for metric in metrics),
                    finite(p_values.get("pearson")),
                    finite(p_values.get("spearman")),
                    "; ".join(f"{metric_name(metric)}: {reason}" for metric, reason in reasons.items()),
                ]
            )
    return Table(
        name="agreement",
        title="Agreement of the maps, photo by photo",
        caption=f"{caption} P-values are by circular shifts of the map.",
        columns=columns,
        rows=rows,
    )


def _mean_agreement(compared: Sequence[tuple[StoredPhoto, str]], metrics: list[str], caption: str) -> Table:
    import pandas as pd

    rows = [
        {
            "image": number,
            "method": str(row["perturbation"]),
            "map": str(row["map"]),
            "metric": metric,
            "value": finite(row.get(metric)),
            "reason": (row.get("reasons") or {}).get(metric, "")
            or ("" if finite(row.get(metric)) is not None else "none"),
        }
        for number, (photo, _) in enumerate(compared)
        for row in photo.record["agreement"]
        for metric in metrics
    ]
    table = pd.DataFrame(rows)
    table["value"] = table["value"].astype("float64")
    means = summarize(table)
    return Table(
        name="mean-agreement",
        title="Agreement of the maps, means over the photos",
        caption=f"{caption} The interval is a 95% bootstrap interval of the mean over photos. Clear the filter "
        "to see all metrics.",
        columns=(
            Column("method"),
            Column("map"),
            Column("metric", first_filter=metric_name(metrics[0])),
            Column("mean", "number", digits=3),
            Column("interval from", "number", digits=3),
            Column("interval to", "number", digits=3),
            Column("photos with a value", "number"),
            Column("photos without", "number"),
        ),
        rows=[
            [
                str(row.method),
                map_name(str(row.map)),
                metric_name(str(row.metric)),
                finite(row.mean),
                finite(row.low),
                finite(row.high),
                int(row.n),
                int(row.undefined),
            ]
            for row in means.itertuples(index=False)
        ],
    )


def _result_number(key: str) -> Callable[[StoredPhoto], Value]:
    return lambda photo: finite(photo.result.get(key))


def _png_outcome(photo: StoredPhoto) -> Value:
    file: dict[str, Any] = photo.record.get("file") or {}
    return "" if "success" not in file else "yes" if file["success"] else "no"


def _level_unit(photos: Sequence[StoredPhoto]) -> str:
    units = {str(photo.result["level_unit"]) for photo in photos if photo.result.get("level_unit")}
    return units.pop() if len(units) == 1 else ""
