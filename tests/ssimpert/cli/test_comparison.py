"""What `compare` writes and prints once the images are perturbed, with a small network."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from ssimpert.analysis import read_table
from ssimpert.cli.comparison import check_comparison_options, compare_and_write, forward_from_option, image_names
from ssimpert.cli.errors import UsageError
from ssimpert.cli.options import ForwardName
from ssimpert.cli.outputs import json_text
from ssimpert.errors import InputError
from ssimpert.models import load_model
from tests.ssimpert.analysis.example import CLASSES, WithMean, example_images, example_result
from tests.ssimpert.cli.small_model import Command, records


def made_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    model, image = WithMean(), example_images(2)
    model.label_name = lambda index: CLASSES[index]  # type: ignore[assignment]
    ours = example_result(model, image, name="ours")
    control = example_result(model, image, name="l2 control", step=0.03, seed=1)
    for result in (ours, control):
        names = ("margin_before", "margin_after", "ssim", "min_window_ssim", "contrast_distance", "violation")
        numbers = dict.fromkeys(names, 0.5)
        row = numbers | {
            "perturbation": result.name,
            "label_before": 0,
            "label_after": 1,
            "success": True,
            "message": "",
        }
        result.rows = lambda row=row: [row | {"image": k} for k in range(2)]
    monkeypatch.setattr(import_module("ssimpert.analysis.comparison.maps"), "l2_control", lambda *_, **__: control)
    run = SimpleNamespace(
        names=["photos/cat.png", "other/cat.png"],
        folders=[tmp_path / "cat", tmp_path / "cat-2"],
        classifier=model,
        batch=image,
        record=lambda result, index: {"image": index, "perturbation": result.name},
        finished=[],
        shown=[],
    )
    run.finish = lambda records, as_json: run.finished.append((records, as_json))
    run.show = run.shown.append
    for folder in run.folders:
        folder.mkdir()
    return run, ours


def test_every_file_is_written_and_the_records_hold_the_tables_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, ours = made_run(tmp_path, monkeypatch)
    options = {
        "attributions": ["gradient"],
        "sanity": True,
        "shifts": 250,
        "cam": "layer_cam",
    }
    compare_and_write(run, ours, options, as_json=False)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")}
    shared = {"maps.png", "maps.svg"}
    own = {f"{name}/figure.{ending}" for name in ("cat", "cat-2") for ending in ("png", "svg")}
    assert files == {"agreement.parquet"} | shared | own

    table = read_table(tmp_path / "agreement.parquet")
    ((records, as_json),) = run.finished
    assert not as_json
    values = table.set_index(["image", "method", "map", "metric"])["value"]
    for record, name in zip(records, ("cat", "cat-2"), strict=True):
        assert record["perturbation"] == "ours"
        assert record["l2_control"]["perturbation"] == "l2 control"
        assert record["cam"] == "layer_cam"
        assert record["comparison_settings"]["shifts"] == 250
        for row in record["agreement"]:
            assert row["pearson"] == values[name, row["perturbation"], row["map"], "pearson"]
        json.loads(json_text(record))
    assert len(records[0]["agreement"]) == 3 + 3 + 4 + 1 + 2

    with (console := Console(width=200)).capture() as printed:
        for shown in run.shown:
            console.print(shown)
    said = printed.get()
    for word in (
        "zebra",
        "Agreement with LayerCAM (features.3)",
        "random weights",
        "by 250 circular shifts",
        "cat.png",
    ):
        assert word in said
    assert capsys.readouterr().out == ""


def test_nothing_is_printed_beside_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, ours = made_run(tmp_path, monkeypatch)
    monkeypatch.setattr("ssimpert.report.comparison_files.save_table_and_figures", lambda *_, **__: None)
    compare_and_write(run, ours, {"shifts": 0}, as_json=True)
    assert run.finished[0][1] is True
    assert run.shown == []
    assert capsys.readouterr().out == ""


def test_options_are_checked_before_any_image_is_perturbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = made_run(tmp_path, monkeypatch)
    check_comparison_options(run, {"attributions": ["rise"], "sanity": True, "insertion_deletion": True})
    with pytest.raises(InputError, match="unknown attribution 'rize'"):
        check_comparison_options(run, {"attributions": ["rize"]})


def test_one_image_keeps_its_name_and_its_folder() -> None:
    assert image_names(["photos/cat.png"], [Path("out")]) == (["cat"], Path("out"))
    assert image_names(["cat", "cat"], [Path("out/cat"), Path("out/cat-2")]) == (["cat", "cat-2"], Path("out"))


@pytest.mark.parametrize(
    "options",
    [
        {"insertion_deletion": True, "attributions": []},
        {"insertion_deletion": False, "attributions": ["gradient", "rise"]},
        {"insertion_deletion": False, "attributions": ["occlusion"]},
    ],
)
def test_a_copy_is_made_where_there_is_use_for_it(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = made_run(tmp_path, monkeypatch)
    monkeypatch.setattr("ssimpert.models.onnx_classifier", lambda model, example: (model, len(example)))
    assert forward_from_option(run, options, ForwardName.TORCH) is None
    assert forward_from_option(run, options, ForwardName.ONNX) == (run.classifier, 1)
    with pytest.raises(UsageError, match="--forward onnx is for --insertion-deletion, --attribution occlusion or"):
        forward_from_option(run, {"insertion_deletion": False, "attributions": ["gradient"]}, ForwardName.ONNX)


def test_a_step_of_curves_that_nobody_asked_for_is_refused(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssimpert.models.load_model", lambda *_, **__: pytest.fail("work started"))
    code, _, err = command("compare", "chelsea", "--insertion-step", "224", "--out", tmp_path)
    assert code == 2
    assert "--insertion-step 224 is for --insertion-deletion, which is not asked for" in err


@pytest.mark.usefixtures("small")
@pytest.mark.skipif(
    any(find_spec(package) is None for package in ("onnx", "onnxscript", "onnxruntime")),
    reason="onnx, onnxscript or onnxruntime is missing: pip install 'ssimpert[onnx]'",
)
def test_the_command_compares_through_onnx_runtime(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssimpert.report.comparison_files.save_table_and_figures", lambda *_, **__: None)
    words = ("compare", "chelsea", "--layer", "2", "--attribution", "rise", "--shifts", "0", "--json")
    code, out, err = command(*words, "--forward", "onnx", "--out", tmp_path / "out")
    assert code == 0, err
    (record,) = json.loads(out)
    assert record["comparison_settings"]["forward"] == "onnx"
    assert any(row["map"] == "rise" and row["pearson"] is not None for row in record["agreement"])


def test_a_copy_that_nothing_would_use_is_refused_before_the_model_perturbs(
    command: Command, tmp_path: Path, small: object
) -> None:
    code, _, err = command("compare", "chelsea", "--layer", "2", "--forward", "onnx", "--out", tmp_path / "out")
    assert code == 2, err
    assert "none of them is asked for" in err


def test_a_vision_transformer_of_a_weights_file_comes_to_a_figure_without_a_layer_named(
    command: Command, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.pth"
    torch.save(load_model("timm:test_vit", weights="random", device="cpu").network.state_dict(), weights)
    model = ("--model", "timm:test_vit", "--weights", weights, "--device", "cpu")
    found = records(
        command,
        *("compare", "chelsea", *model, "--constraint", "l2", "--radius", 1, "--steps", 1, "--shifts", 0),
        *("--out", tmp_path / "out"),
    )
    assert found[0]["cam_layer"] == "blocks.5.norm1"
    assert (tmp_path / "out" / "figure.png").stat().st_size > 10_000
    assert (tmp_path / "out" / "maps.png").exists()


def test_a_layout_that_does_not_fit_the_layer_is_refused_before_any_image_is_perturbed(
    command: Command, tmp_path: Path
) -> None:
    model = ("--model", "timm:test_vit", "--weights", "random", "--device", "cpu", "--out", tmp_path / "out")
    code, _, err = command("compare", "chelsea", *model, "--layout", "channels_last")
    assert code != 0
    assert "not 'channels_last'" in " ".join(err.split())
