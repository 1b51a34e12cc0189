"""What `compare` writes and prints, with a small network."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import solvers
import ssimpert
from ssimpert.analysis import read_table
from ssimpert.analysis.comparison.stored import load_maps
from ssimpert.cli.comparison import check_comparison_options, forward_from_option, image_names
from ssimpert.cli.errors import UsageError
from ssimpert.cli.options import ForwardName
from ssimpert.errors import InputError
from ssimpert.models import Classifier, load_model
from ssimpert.records import json_values
from tests.ssimpert.analysis.example import WithMean, example_images
from tests.ssimpert.cli.small_model import SIDE, Command, records

QUICK = ("--constraint", "l2", "--steps", 2, "--layer", 2)


def test_every_file_is_written_and_the_records_hold_the_tables_values(
    command: Command, small: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two photos: what each photo's record says is what the common table says, and what a comparison of both says."""
    monkeypatch.setattr("ssimpert.report.comparison_files.save_comparison_figure", blank_figures)
    words = ("compare", "chelsea", "coffee", *QUICK, "--attribution", "gradient", "--shifts", 250, "--cam", "layer_cam")
    code, said, err = command(*words, "--insertion-deletion", "--insertion-step", 64, "--out", tmp_path)
    assert code == 0, err
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*") if path.is_file()}
    shared = {f"{name}.{ending}" for name in ("maps", "insertion_deletion") for ending in ("png", "svg")}
    of_photo = {"adversarial.npy", "adversarial.png", "figure.png", "figure.svg", "maps.npz", "result.json"}
    of_photos = {f"{name}/{file}" for name in ("chelsea", "coffee") for file in of_photo}
    assert files == {"agreement.parquet", "run.json"} | shared | of_photos

    images = [ssimpert.load_image(name, size=SIDE) for name in ("chelsea", "coffee")]
    ball = solvers.LpBall(2.0, 0.5)
    table = read_table(tmp_path / "agreement.parquet")
    values = table.set_index(["image", "method", "map", "metric"])
    for name, image in zip(("chelsea", "coffee"), images, strict=True):
        record = json.loads((tmp_path / name / "result.json").read_text())
        assert record["l2_control"]["perturbation"] == "l2 control"
        assert record["cam"] == "layer_cam"
        assert record["comparison_settings"]["shifts"] == 250
        assert set(record["files"]) == of_photo - {"result.json"}
        result = ssimpert.perturb(small, image, ball, steps=2)
        options = {"layer": "2", "attributions": ["gradient"], "cam": "layer_cam"}
        alone = ssimpert.compare(small, image, result, **options, shifts=250, insertion_deletion=64)
        expected = json_values(alone.records)
        assert record["agreement"] == expected
        for row in alone.records:
            key = (name, row["perturbation"], row["map"])
            for metric in ("pearson", "kl_divergence", "insertion_auc"):
                assert values.loc[(*key, metric), "value"] == pytest.approx(row[metric], nan_ok=True, abs=0, rel=0)
            assert values.loc[(*key, "pearson"), "p_value"] == pytest.approx(
                row["p_values"]["pearson"], nan_ok=True, abs=0, rel=0
            )
        cam, maps = load_maps(tmp_path / name / "maps.npz")
        assert torch.equal(cam, alone.cam)
        assert {method: list(kinds) for method, kinds in maps.items()} == {
            method: list(kinds) for method, kinds in alone.maps.items()
        }
        for method, kinds in maps.items():
            for kind, stored in kinds.items():
                assert torch.equal(stored, alone.maps[method][kind])
    for word in ("Agreement with LayerCAM (2)", "by 250 circular shifts", "coffee", "l2 control"):
        assert word in said

    # Again: nothing is computed, and the table and what is printed are the same.
    before = (tmp_path / "agreement.parquet").read_bytes()
    code, again, err = command(*words, "--insertion-deletion", "--insertion-step", 64, "--out", tmp_path)
    assert code == 0
    assert "2 of 2 photos are complete" in err
    assert again == said
    assert (tmp_path / "agreement.parquet").read_bytes() == before


def test_nothing_is_printed_beside_json(
    command: Command, small: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssimpert.report.comparison_files.save_map_grid", lambda *_, **__: None)
    (record,) = records(command, "compare", "chelsea", *QUICK, "--shifts", 0, "--out", tmp_path)
    assert record["result"]["perturbation"] == "l2"


def test_the_figure_of_maps_has_as_many_photos_as_fit(
    command: Command, small: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[str]] = []
    monkeypatch.setattr("ssimpert.cli.comparison.MAX_PHOTOS_OF_MAPS", 1)
    monkeypatch.setattr("ssimpert.report.comparison_files.save_map_grid", lambda *_, names, note: drawn.append(names))
    monkeypatch.setattr("ssimpert.report.comparison_files.save_comparison_figure", blank_figures)
    code, _, err = command("compare", "chelsea", "coffee", *QUICK, "--shifts", 0, "--out", tmp_path)
    assert code == 0, err
    assert drawn == [["chelsea"]]
    assert set(read_table(tmp_path / "agreement.parquet")["image"]) == {"chelsea", "coffee"}


def blank_figures(folder: Path, *_: object, **__: object) -> None:
    for ending in ("png", "svg"):
        (folder / f"figure.{ending}").write_text("drawn")


def workspace_of_a_photo() -> Any:
    return SimpleNamespace(classifier=WithMean(), load=lambda index: example_images(1), objects=lambda index: {})


def test_options_are_checked_before_any_image_is_perturbed() -> None:
    run = workspace_of_a_photo()
    check_comparison_options(run, {"attributions": ["rise"], "sanity": True, "insertion_deletion": True})
    with pytest.raises(InputError, match="unknown attribution 'rize'"):
        check_comparison_options(run, {"attributions": ["rize"]})


def test_one_image_keeps_its_name_and_its_folder() -> None:
    assert image_names(["photos/cat.png"], [Path("out")]) == ["cat"]
    assert image_names(["cat", "cat"], [Path("out/cat"), Path("out/cat-2")]) == ["cat", "cat-2"]


@pytest.mark.parametrize(
    "options",
    [
        {"insertion_deletion": True, "attributions": []},
        {"insertion_deletion": False, "attributions": ["gradient", "rise"]},
        {"insertion_deletion": False, "attributions": ["occlusion"]},
    ],
)
def test_a_copy_is_made_where_there_is_use_for_it(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    run = workspace_of_a_photo()
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
    monkeypatch.setattr("ssimpert.report.comparison_files.save_map_grid", lambda *_, **__: None)
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
