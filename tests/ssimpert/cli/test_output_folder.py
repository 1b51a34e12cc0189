"""The folder ``--out``: nothing leaves it, nobody's files are replaced, and what is complete is kept."""

from __future__ import annotations

import fcntl
import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ssimpert.cli.folder_names import folder_name
from ssimpert.models import Classifier
from tests.ssimpert.cli.small_model import Command

QUICK = ("--constraint", "l2", "--steps", "1", "--eps-rel", "1e-2")
pytestmark = pytest.mark.usefixtures("small")


def photo(path: Path, seed: int = 0) -> Path:
    """A noisy picture of 40x40 pixels."""
    pixels = torch.randint(0, 256, (40, 40, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        Image.fromarray(pixels.numpy()).save(file, format="PNG")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_times(value: Any) -> Any:
    """A record without the fields ``seconds``, the only ones that differ between equal runs."""
    if isinstance(value, dict):
        return {key: without_times(entry) for key, entry in value.items() if key != "seconds"}
    return [without_times(entry) for entry in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("photos/cat.png", "cat"),
        ("chelsea", "chelsea"),
        ("[red]x.png", "[red]x"),
        ("-rf.png", "-rf"),
        ("...png", "__"),
        ("..", "__"),
        ("..png", "_"),
        ("", "_"),
        (".png", ".png"),
        ("a\nb\x1b[31m.png", "a_b_[31m"),
        ("back\\slash.png", "back_slash"),
        ("\u202egnp.png", "_gnp"),
        (os.fsdecode(b"\xff\xfe.png"), "\ufffd\ufffd"),
        ("x" * 251 + ".png", "x" * 200),
        ("\u00e9" * 120 + ".png", "\u00e9" * 100),
    ],
)
def test_a_folders_name_is_one_usable_name(image: str, name: str) -> None:
    assert folder_name(image) == name
    assert Path(name).name == name


def test_no_name_escapes_the_folder(command: Command, tmp_path: Path) -> None:
    names = ["...png", "[red]x.png", "-rf.png", "a\nb.png", "x" * 251 + ".png", os.fsdecode(b"\xff.png")]
    names += ["run.json.png", "result.json.png", "Cat.png", "cat.png"]
    photos = [photo(tmp_path / "in" / name, seed) for seed, name in enumerate(names)]
    before = contents(tmp_path / "in")
    code, _, err = command("perturb", *QUICK, "--json", "--out", tmp_path / "out" / "deep", "--", *photos)
    assert code == 0, err
    assert contents(tmp_path / "in") == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["deep"]
    folders = [path for path in (tmp_path / "out" / "deep").iterdir() if path.is_dir()]
    assert len({path.name.casefold() for path in folders}) == len(names)
    assert all((path / "result.json").is_file() for path in folders)


def test_an_input_is_never_overwritten(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "same"
    original = photo(out / "adversarial.png")
    soft, hard = tmp_path / "soft.png", tmp_path / "hard.png"
    soft.symlink_to(original)
    os.link(original, hard)
    before = original.read_bytes()
    for given in (original, soft, hard):
        code, _, err = command("perturb", given, *QUICK, "--force", "--out", out)
        assert code == 1
        assert f"would overwrite the input '{given}'" in err
    assert original.read_bytes() == before


def test_files_of_somebody_else_stay(command: Command, tmp_path: Path) -> None:
    for name in (".writable", "notes.txt", ".ssimpert-mine.tmp"):
        (tmp_path / name).write_text("a user's")
    assert command("perturb", "chelsea", *QUICK, "--out", tmp_path)[0] == 0
    for name in (".writable", "notes.txt", ".ssimpert-mine.tmp"):
        assert (tmp_path / name).read_text() == "a user's"


@pytest.mark.parametrize("name", ["result.json", "figure.png", "run.json"])
def test_a_file_that_looks_like_a_result_is_replaced_by_force_only(command: Command, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("a user's")
    code, _, err = command("perturb", "chelsea", *QUICK, "--out", tmp_path)
    assert code == 1
    assert name in err
    assert "--force" in err
    assert contents(tmp_path) == {name: b"a user's"}
    assert command("perturb", "chelsea", *QUICK, "--out", tmp_path, "--force")[0] == 0


def test_links_are_not_followed_out_of_the_folder(command: Command, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("a user's")
    out = tmp_path / "out"
    out.mkdir()
    for link, target in ((out / "chelsea", elsewhere), (out / "run.json", elsewhere / "file")):
        link.symlink_to(target)
        code, _, err = command("perturb", "chelsea", "coffee", *QUICK, "--force", "--out", out)
        assert code == 1
        assert f"'{link}' is a link" in err
        link.unlink()
    assert contents(elsewhere) == {"file": b"a user's"}


def test_an_out_that_is_a_link_to_a_folder_is_that_folder(command: Command, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    assert command("perturb", "chelsea", *QUICK, "--out", tmp_path / "out")[0] == 0
    assert (tmp_path / "real" / "result.json").is_file()


def test_a_dangling_out_is_named_with_its_target(command: Command, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("nowhere")
    for out in (tmp_path / "out", tmp_path / "out" / "deeper"):
        code, _, err = command("perturb", "chelsea", *QUICK, "--out", out)
        assert code == 1
        assert "is a link to 'nowhere', which does not exist" in err


def test_a_full_disk_is_one_line_and_leaves_what_is_complete(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ssimpert.cli import perturb_photo

    original, limits = perturb_photo.perturbed, resource.getrlimit(resource.RLIMIT_FSIZE)

    def disk_full_at_the_second(workspace: Any, perturb_run: Any, index: int, *rest: Any) -> Any:
        if index == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        return original(workspace, perturb_run, index, *rest)

    monkeypatch.setattr(perturb_photo, "perturbed", disk_full_at_the_second)
    try:
        code, _, err = command("perturb", "chelsea", "coffee", *QUICK, "--out", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1
    assert "File too large" in err.splitlines()[-1]
    assert "1 of 2 photos are complete" in err
    assert "Traceback" not in err
    files = set(contents(tmp_path))
    assert files == {"run.json", *(f"chelsea/{name}" for name in ("adversarial.npy", "adversarial.png", "result.json"))}


def test_the_same_command_skips_what_is_complete(command: Command, tmp_path: Path) -> None:
    words = ("perturb", "chelsea", "coffee", *QUICK, "--out", tmp_path)
    code, said, _ = command(*words)
    assert code == 0
    before = contents(tmp_path)
    code, again, err = command(*words)
    assert code == 0
    assert again == said
    assert "2 of 2 photos are complete" in err
    assert contents(tmp_path) == before  # to the recorded seconds: nothing was computed
    # A file is missing: that photo is done again, with the same result.
    (tmp_path / "coffee" / "adversarial.png").unlink()
    code, _, err = command(*words)
    assert code == 0
    assert "1 of 2 photos are complete" in err
    after = contents(tmp_path)
    assert after["chelsea/result.json"] == before["chelsea/result.json"]
    assert after["coffee/adversarial.png"] == before["coffee/adversarial.png"]
    old, new = (json.loads(files["coffee/result.json"]) for files in (before, after))
    assert without_times(old) == without_times(new)
    assert old["seconds"] != new["seconds"]
    # By force everything is done again.
    code, _, err = command(*words, "--force")
    assert code == 0
    assert "complete" not in err
    assert contents(tmp_path)["chelsea/result.json"] != before["chelsea/result.json"]


def test_more_photos_join_those_that_are_there_and_do_not_change_them(command: Command, tmp_path: Path) -> None:
    assert command("perturb", "chelsea", "coffee", *QUICK, "--out", tmp_path / "a")[0] == 0
    before = contents(tmp_path / "a")
    assert command("perturb", "rocket", "coffee", *QUICK, "--out", tmp_path / "a")[0] == 0
    after = contents(tmp_path / "a")
    run = json.loads(after.pop("run.json"))
    assert list(run["photos"]) == ["chelsea", "coffee", "rocket"]
    assert {name: content for name, content in after.items() if not name.startswith("rocket")} == {
        name: content for name, content in before.items() if name != "run.json"
    }
    # A photo's result does not depend on the photos beside it.
    assert command("perturb", "rocket", *QUICK, "--out", tmp_path / "b")[0] == 0
    alone = json.loads((tmp_path / "b" / "result.json").read_text())
    assert without_times(alone) == without_times(json.loads(after["rocket/result.json"]))


def test_photos_of_one_stem_keep_their_folders_in_any_order(command: Command, tmp_path: Path) -> None:
    first, second = photo(tmp_path / "a" / "cat.png", 1), photo(tmp_path / "b" / "cat.png", 2)
    words = (*QUICK, "--out", tmp_path / "out")
    assert command("perturb", first, second, *words)[0] == 0
    before = contents(tmp_path / "out")
    code, _, err = command("perturb", second, first, *words)
    assert code == 0
    assert "2 of 2 photos are complete" in err
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (("--radius", "0.7"), "--radius: 0.5 there, 0.7 now"),
        (("--steps", "2"), "--steps: 1 there, 2 now"),
        (("--target", "3"), "--target: none there, 3 now"),
    ],
)
def test_other_options_are_refused_with_the_difference(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: tuple[str, ...], difference: str
) -> None:
    words = ("perturb", "chelsea", *QUICK, "--out", tmp_path)
    assert command(*words)[0] == 0
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("ssimpert.models.load_model", lambda *_, **__: pytest.fail("work started"))
        code, _, err = command(*words, *other)
    assert code == 2
    assert difference in err
    assert "--force" in err
    assert contents(tmp_path) == before
    assert command(*words, *other, "--force")[0] == 0
    assert contents(tmp_path)["result.json"] != before["result.json"]


def test_another_command_other_versions_and_other_weights_are_refused(
    command: Command, small: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("chelsea", *QUICK, "--out", tmp_path)
    assert command("perturb", *words)[0] == 0
    code, _, err = command("minimal", *words)
    assert code == 2
    assert "command: perturb there, minimal now" in err
    with monkeypatch.context() as patch:
        patch.setattr("ssimpert.cli.run_record.package_versions", lambda: {"torch": "0.1"})
        code, _, err = command("perturb", *words)
    assert code == 2
    assert f"torch: {torch.__version__} there, 0.1 now" in err
    with torch.no_grad():
        next(small.parameters()).mul_(1.5)
    code, _, err = command("perturb", *words)
    assert code == 2
    assert "the model's weights are others" in err


def test_a_photo_that_has_changed_is_refused_unless_forced(command: Command, tmp_path: Path) -> None:
    given = photo(tmp_path / "cat.png", 1)
    for names in ((given,), (given, "chelsea")):
        words = ("perturb", *names, *QUICK, "--out", tmp_path / f"out{len(names)}")
        photo(given, 1)
        assert command(*words)[0] == 0
        photo(given, 2)
        code, _, err = command(*words)
        assert code == 2
        assert "that photo as it was before" in err
        assert command(*words, "--force")[0] == 0


def test_another_photo_does_not_replace_a_single_photos_result(command: Command, tmp_path: Path) -> None:
    assert command("perturb", "chelsea", *QUICK, "--out", tmp_path)[0] == 0
    code, _, err = command("perturb", "coffee", *QUICK, "--out", tmp_path)
    assert code == 2
    assert "has the result of 'chelsea'" in err


def test_options_of_a_run_without_any_result_bind_nobody(command: Command, tmp_path: Path) -> None:
    assert command("perturb", "chelsea", *QUICK, "--out", tmp_path)[0] == 0
    (tmp_path / "result.json").unlink()  # as a run is that was killed during its first photo
    assert command("perturb", "chelsea", *QUICK, "--radius", "0.7", "--out", tmp_path)[0] == 0


def test_a_folder_that_another_process_writes_to_is_refused(command: Command, tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    code, _, err = command("perturb", "chelsea", *QUICK, "--out", tmp_path)
    os.close(descriptor)
    assert code == 1
    assert "another command is writing to" in err
    assert contents(tmp_path) == {}


def test_temporary_files_of_a_killed_run_are_removed(command: Command, tmp_path: Path) -> None:
    words = ("perturb", "chelsea", "coffee", *QUICK, "--out", tmp_path)
    assert command(*words)[0] == 0
    for folder in (tmp_path, tmp_path / "coffee"):
        (folder / ".ssimpert-0123456789abcdef.tmp").write_text("half")
    assert command(*words)[0] == 0
    assert not list(tmp_path.rglob(".ssimpert-*"))
