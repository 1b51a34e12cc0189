"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import resource
import stat
from pathlib import Path

import pytest

from ssimpert.atomic_files import is_temporary, remove_temporary_files, write_atomically


def test_a_file_is_made_and_replaced_with_the_usual_permissions(tmp_path: Path) -> None:
    path, plain = tmp_path / "a", tmp_path / "plain"
    plain.touch()
    for content in (b"first", b""):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    assert {entry.name for entry in tmp_path.iterdir()} == {"a", "plain"}


def test_links_are_replaced_and_what_is_behind_them_stays(tmp_path: Path) -> None:
    original = tmp_path / "original"
    original.write_text("precious")
    soft, hard = tmp_path / "soft", tmp_path / "hard"
    soft.symlink_to(original)
    os.link(original, hard)
    for path in (soft, hard):
        write_atomically(path, b"new")
        assert path.read_bytes() == b"new"
        assert not path.is_symlink()
    assert original.read_text() == "precious"


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_atomically(path, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_an_interruption_before_the_last_step_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_only_temporary_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    left = tmp_path / ".ssimpert-0123456789abcdef.tmp"
    others = [".writable", ".ssimpert-notes.tmp", "ssimpert-0123456789abcdef.tmp", ".a.tmp"]
    for name in others:
        (tmp_path / name).write_text("a user's")
    left.write_text("half")
    link = tmp_path / ".ssimpert-fedcba9876543210.tmp"
    link.symlink_to(tmp_path / ".a.tmp")
    assert is_temporary(left)
    remove_temporary_files(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {*others, link.name}
