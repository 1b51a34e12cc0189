"""Parts: the records that one writer appended, as an Arrow IPC stream beside a file of checksums.

``parts/NAME.arrows`` is an Arrow stream of record batches without its end mark. ``parts/NAME.sums`` has a line for each
piece of that stream, the schema and then every batch: where the piece ends, the CRC-32 of its bytes and its keys, and
the keys of its records. A batch counts once its line is on the disk. So a reader sees whole batches only, however the
writer ended, and a byte that changed later is found. A name is used once: a part that was left is never appended to.
"""

from __future__ import annotations

import io
import os
import secrets
import socket
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from ssimpert.atomic_files import write_atomically
from ssimpert.errors import InputError
from ssimpert.study.key_arrays import KeyArray, bytes_array, key_array

PARTS, TORN = "parts", "torn"
"""The folder of the parts, and the folder within it for what could not be read."""

RECORDS, SUMS = ".arrows", ".sums"
"""The suffixes of a part's two files."""


class PartWriter:
    """Appends records to a part of its own. The part's files appear with the first record.

    Attributes:
        name: of the part, unique: the host, the process and the time.
        rows: how many records are on the disk.
    """

    def __init__(self, folder: Path, schema: pa.Schema, name: str | None = None) -> None:
        """A writer of a new part.

        Args:
            folder: of the study.
            schema: of the records.
            name: of the part; default one that no other part has.
        """
        self.name = part_name() if name is None else name
        self.rows = 0
        self._folder, self._schema = folder / PARTS, schema
        self._records: int | None = None
        self._sums: int | None = None
        self._end = 0
        self._is_broken = False

    def append(self, records: Sequence[Mapping[str, Any]] | pa.RecordBatch | pa.Table) -> None:
        """Append records. They are on the disk when this function returns.

        Raises:
            OSError: the disk is full, or the folder can't be written. What was appended before stays as it is, and the
                writer can't be used any more.
        """
        batch = as_batch(records, self._schema)
        if not batch.num_rows:
            return
        if self._is_broken:
            raise OSError(f"part {self.name} could not be written before; begin another part")
        try:
            if self._records is None:
                self._create()
            self._write(_message(batch), _keys_text(batch))
        except BaseException:
            self._is_broken = True  # what follows half a batch would be read by nobody
            raise
        self.rows += batch.num_rows

    def close(self) -> None:
        """Close the files. Closing twice does nothing."""
        for descriptor in (self._records, self._sums):
            if descriptor is not None:
                os.close(descriptor)
        self._records = self._sums = None

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _create(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._records = os.open(self._folder / f"{self.name}{RECORDS}", flags, 0o666)
        self._sums = os.open(self._folder / f"{self.name}{SUMS}", flags, 0o666)
        sync_folder(self._folder)
        self._write(_schema_message(self._schema), b"")

    def _write(self, content: bytes, keys: bytes) -> None:
        assert self._records is not None
        assert self._sums is not None
        _write_all(self._records, content)
        os.fsync(self._records)
        self._end += len(content)
        _write_all(self._sums, _sum_line(self._end, content, keys))
        os.fsync(self._sums)


@dataclass(frozen=True, eq=False)
class Part:
    """What could be read of a part.

    Attributes:
        name: of the part.
        pieces: the bytes of the schema and of all sound batches; empty where not even the schema is sound.
        keys: of the records of all sound batches.
        torn_bytes: bytes after the last whole batch.
        corrupt_rows: records of batches whose bytes changed.
    """

    name: str
    pieces: tuple[memoryview, ...] = ()
    keys: KeyArray = field(default_factory=lambda: key_array(()))
    torn_bytes: int = 0
    corrupt_rows: int = 0

    @property
    def is_sound(self) -> bool:
        """Whether every byte was readable."""
        return bool(self.pieces) and not self.torn_bytes and not self.corrupt_rows

    @cached_property
    def table(self) -> pa.Table | None:
        """The records of all sound batches; ``None`` where not even the schema is sound."""
        if not self.pieces:
            return None
        with pa.ipc.open_stream(pa.py_buffer(b"".join(self.pieces))) as reader:
            return reader.read_all()


def part_name() -> str:
    """A name that no other part has: host, process, time, and a random token."""
    host = "".join(letter if letter.isalnum() else "_" for letter in socket.gethostname())
    return f"{host}-{os.getpid()}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"


def part_names(folder: Path) -> list[str]:
    """The names of the parts of a study's folder, sorted."""
    return sorted(path.stem for path in (folder / PARTS).glob(f"*{RECORDS}"))


def read_part(folder: Path, name: str) -> Part:
    """The sound batches of a part. The writer may still be at work: its last, unfinished batch is left out.

    Raises:
        OSError: the part can't be read at all.
    """
    path = folder / PARTS / f"{name}{RECORDS}"
    # The sums first: a batch that is appended in the meantime is then not looked for.
    lines = _sum_lines(path.with_suffix(SUMS))
    content = memoryview(path.read_bytes())
    sound: list[memoryview] = []
    keys: list[bytes] = []
    start = end = corrupt_rows = 0
    for number, (end, checksum, piece_keys) in enumerate(lines):
        piece = content[start:end]
        if len(piece) == end - start and _checksum(piece, piece_keys) == checksum:
            sound.append(piece)
            keys += _split(piece_keys)
        elif number == 0:
            rows = sum(len(_split(line_keys)) for _, _, line_keys in lines)
            return Part(name, torn_bytes=len(content), corrupt_rows=rows)
        else:
            corrupt_rows += len(_split(piece_keys))
        start = end
    return Part(name, tuple(sound), bytes_array(keys), max(len(content) - end, 0), corrupt_rows)


def sound_parts(folder: Path) -> Iterator[Part]:
    """The parts of a folder of which at least the schema is sound, one after the other.

    A part that is compacted away in the meantime is left out: its records are in the compacted file then.
    """
    for name in part_names(folder):
        try:
            part = read_part(folder, name)
        except FileNotFoundError:
            continue
        if part.pieces:
            yield part


def repair_parts(folder: Path, *, keep: str = "") -> list[str]:
    """Move what can't be read to ``parts/torn/``, so that its units are missing again.

    Only the holder of the study's lock may call this function.

    Args:
        folder: of the study.
        keep: the name of a part that is being written, which is left alone.

    Returns:
        A line for each part that was repaired.
    """
    lines = []
    for name in part_names(folder):
        if name == keep:
            continue
        part = read_part(folder, name)
        if part.is_sound:
            continue
        _put_aside(folder, part)
        what = []
        if part.corrupt_rows:
            what.append(f"{part.corrupt_rows} records whose bytes changed")
        if part.torn_bytes:
            what.append(f"{part.torn_bytes} bytes of a batch that was never finished")
        lines.append(
            f"parts/{name}{RECORDS}: {' and '.join(what)} moved to parts/{TORN}/; those units are missing again"
        )
    return lines


def as_batch(records: Sequence[Mapping[str, Any]] | pa.RecordBatch | pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    """Records as one Arrow batch of ``schema``.

    Raises:
        InputError: a record has a column that the schema lacks.
    """
    if isinstance(records, pa.RecordBatch):
        return records
    if isinstance(records, pa.Table):
        batches = records.combine_chunks().to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema)
    for record in records:
        unknown = sorted(record.keys() - set(schema.names))
        if unknown:
            raise InputError(f"a record has the columns {', '.join(unknown)}, which the study's schema lacks")
    return pa.RecordBatch.from_pylist(list(records), schema)


def sync_folder(folder: Path) -> None:
    """Let the names of new files in ``folder`` reach the disk. Systems that can't sync folders are left as they are."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _put_aside(folder: Path, part: Part) -> None:
    """Keep the original bytes of a part in ``parts/torn/``, and the sound batches as a new part."""
    parts, torn = folder / PARTS, folder / PARTS / TORN
    torn.mkdir(exist_ok=True)
    records, sums = parts / f"{part.name}{RECORDS}", parts / f"{part.name}{SUMS}"
    # The repaired part comes first: killed in between, both have the same records, which readers count once.
    if part.table is not None and part.table.num_rows:
        repaired = f"{part.name}-repaired-{secrets.token_hex(2)}"
        content, lines = stream_of(part.table)
        write_atomically(parts / f"{repaired}{SUMS}", lines)
        write_atomically(parts / f"{repaired}{RECORDS}", content)
    for path in (sums, records):
        with suppress(FileNotFoundError):
            path.replace(torn / path.name)
    sync_folder(parts)


def stream_of(table: pa.Table) -> tuple[bytes, bytes]:
    """A table as the contents of a part's two files."""
    content, lines = io.BytesIO(), []
    pieces = [(_schema_message(table.schema), b"")]
    pieces += [(_message(batch), _keys_text(batch)) for batch in table.to_batches()]
    for piece, keys in pieces:
        content.write(piece)
        lines.append(_sum_line(content.tell(), piece, keys))
    return content.getvalue(), b"".join(lines)


def _keys_text(batch: pa.RecordBatch) -> bytes:
    return ",".join(batch.column("key").to_pylist()).encode()


def _split(keys: bytes) -> list[bytes]:
    return keys.split(b",") if keys else []


def _sum_line(end: int, piece: bytes, keys: bytes) -> bytes:
    """``END CRC KEY,KEY,...``"""
    return b"%d %08x %b\n" % (end, _checksum(piece, keys), keys)


def _checksum(piece: bytes | memoryview, keys: bytes) -> int:
    return zlib.crc32(keys, zlib.crc32(piece))


def _sum_lines(path: Path) -> list[tuple[int, int, bytes]]:
    """The end, the checksum and the keys of each piece of a part; nothing counts after a line that is not whole."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return []
    return list(_parsed(text))


def _parsed(text: bytes) -> Iterator[tuple[int, int, bytes]]:
    last_end = 0
    for line in text.split(b"\n")[:-1]:
        try:
            end, checksum, keys = line.split(b" ")
            piece = int(end), int(checksum, 16), keys
        except ValueError:
            return
        if piece[0] <= last_end:
            return
        last_end = piece[0]
        yield piece


def _schema_message(schema: pa.Schema) -> bytes:
    return bytes(schema.serialize())


def _message(batch: pa.RecordBatch) -> bytes:
    return bytes(batch.serialize())


def _write_all(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
