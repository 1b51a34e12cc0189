"""Files made to do harm, and paths that are no files: one line each, at once, and no more memory than a line."""

from __future__ import annotations

import os
import socket
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssimpert.data import find_photos, load_image, load_mask, photo_frame
from ssimpert.errors import InputError


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def npy_header(text: str, version: int = 1) -> bytes:
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text.encode() + bytes(100)


def array_header(shape: str, dtype: str = "<f8") -> bytes:
    return npy_header(f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n")


def write(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def bind_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def link_loop(path: Path) -> None:
    other = path.with_name("other.png")
    os.symlink(path, other)
    os.symlink(other, path)


def dangling_link(path: Path) -> None:
    os.symlink("gone.png", path)


def gif_bomb(path: Path) -> None:
    Image.new("P", (16, 16)).save(path, format="GIF")
    content = bytearray(path.read_bytes())
    content[6:10] = struct.pack("<HH", 65535, 65535)
    path.write_bytes(content)


LIMIT = "the limit is 89478485"
NO_ARRAY = "is not a readable .npy array"
FILES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a pipe": ("a.png", os.mkfifo, "is a named pipe (FIFO)"),
    "a socket": ("a.png", bind_socket, "is a socket"),
    "a device": ("a.png", lambda path: os.symlink("/dev/zero", path), "is a character device"),
    "a folder": ("a.png", Path.mkdir, "is a folder"),
    "a loop of links": ("a.png", link_loop, "is a loop of links"),
    "a link to nothing": (
        "a.png",
        lambda path: os.symlink("gone.png", path),
        "is a link to 'gone.png', which does not exist",
    ),
    "a pixel count of 2**62": ("a.png", write(png_header(2**31 - 1, 2**31 - 1)), LIMIT),
    "a square of 13000": (
        "a.png",
        write(png_header(13000, 13000)),
        f"13000x13000 = 169000000 pixels; {LIMIT}",
    ),
    "a GIF of 65535 squared": ("a.gif", gif_bomb, LIMIT),
    "an array of a petabyte": (
        "a.npy",
        write(array_header("(10000000, 10000000, 3)")),
        f"100000000000000 pixels; {LIMIT}",
    ),
    "more than the file holds": (
        "a.npy",
        write(array_header("(1000, 1000, 3)")),
        "header claims 24000000 bytes",
    ),
    "a negative side": ("a.npy", write(array_header("(-5, 20, 3)")), "a.npy'"),
    "a side that is no number": ("a.npy", write(array_header("('a', 20, 3)")), NO_ARRAY),
    "a nested header": ("a.npy", write(npy_header("(" * 500)), NO_ARRAY),
    "a program as a header": (
        "a.npy",
        write(npy_header("__import__('os').getpid()\n")),
        "is not a readable .npy array",
    ),
    "a header of 4 GB": (
        "a.npy",
        write(b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1)),
        "is not a readable .npy array",
    ),
    "an unknown version": ("a.npy", write(b"\x93NUMPY\x09\x00" + bytes(50)), NO_ARRAY),
    "text values": (
        "a.npy",
        write(array_header("(20, 20)", "<U10")),
        "floating-point pixels",
    ),
    "a mark and nothing else": ("a.npy", write(b"\x93NUMPY"), NO_ARRAY),
    "nothing at all": ("a.png", write(b""), "is not an image file"),
    "half a TIFF": ("a.tif", write(b"II*\0\x08\0\0\0\xff\xff"), "a.tif'"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_hostile_file_is_one_line(kind: str, tmp_path: Path) -> None:
    name, make, reason = FILES[kind]
    path = tmp_path / name
    make(path)
    Image.init()
    load_image("chelsea")
    tracemalloc.start()  # which sees what numpy allocates, and not what Pillow does
    with pytest.raises(InputError) as caught:
        load_image(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    message = str(caught.value)
    assert reason in message
    assert str(path) in message
    assert "\n" not in message
    assert peak < 20e6
    with pytest.raises(InputError):
        load_mask(path)


@pytest.mark.parametrize("kind", [kind for kind, (_, _, reason) in FILES.items() if LIMIT in reason])
def test_a_header_is_enough_to_refuse_too_many_pixels(kind: str, tmp_path: Path) -> None:
    name, make, reason = FILES[kind]
    make(tmp_path / name)
    with pytest.raises(InputError) as caught:
        photo_frame(tmp_path / name)
    assert reason in str(caught.value)


NAMES = [
    "...png",
    "[red]x.png",
    "\x1b[31mred.png",
    "two\nlines.png",
    "-x.png",
    "a" * 251 + ".png",
    os.fsdecode(b"\xff\xfe.png"),
    " .png",
    "tab\t.png",
    "\u202egnp.png",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_photo_of_any_name_is_found_and_loaded(name: str, tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (255, 0, 0)).save(tmp_path / "plain.png")
    path = tmp_path / "names" / name
    path.parent.mkdir()
    (tmp_path / "plain.png").rename(path)
    assert find_photos([str(path)]).names == (str(path),)
    assert load_image(path)[0, :, 3, 3].tolist() == [1, 0, 0]
    found = find_photos([str(path.parent)])
    # A name that begins with a dot is hidden; as an argument of its own it is taken.
    assert found.names == (() if name.startswith(".") else (str(path),))


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_damaged_photo_of_any_name_is_one_printable_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InputError) as caught:
        load_image(tmp_path / name)
    assert str(caught.value).isprintable()


def test_a_deep_picture_of_a_name_that_is_no_utf8_is_read(tmp_path: Path) -> None:
    from tests.ssimpert.data.test_depth import png

    path = tmp_path / os.fsdecode(b"\xff.png")
    png(np.full((16, 16, 3), 65535, np.uint16), path)
    assert float(load_image(path).min()) == 1


def test_a_null_character_and_a_name_too_long_are_no_usable_paths() -> None:
    for name in ("a\0.png", "x" * 5000):
        with pytest.raises(InputError, match="is no usable path") as caught:
            load_image(name)
        assert str(caught.value).isprintable()
        assert "is no usable path" in find_photos([name]).faults[0]
