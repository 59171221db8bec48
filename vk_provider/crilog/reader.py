"""Reads a CRI log file as a log request wants it (cri-client/pkg/logs/logs.go ReadLogs is the model of behaviour).

The tail position is found before the filter by time; partial lines (P) count as lines of the tail, carry no newline,
and get a timestamp only where a logical line starts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from vk_provider.crilog.line import LogLineError, format_timestamp, parse_line, parse_timestamp_ns
from vk_provider.crilog.options import LogOptions

BLOCK_BYTES = 64 * 1024


class LogFileError(Exception):
    """The log cannot be read; str() is what a kubelet writes into the body of its answer."""


class LogFormatter:
    """Turns raw lines into what the client sees; keeps the state that goes across lines. No I/O."""

    def __init__(self, options: LogOptions, now_ns: int) -> None:
        self._since_ns = options.since_ns(now_ns)
        self._timestamps = options.timestamps
        self._remaining_bytes = options.limit_bytes
        # Without follow the tail is a fixed number of lines, even if the file grows meanwhile.
        self._remaining_lines = options.tail_lines if not options.follow else None
        self._at_line_start = True
        self._format_known = False
        self.done = self._remaining_lines == 0

    def feed(self, lines: list[bytes]) -> bytes:
        """Format lines (each with its newline, if any). Raises LogFileError when the file is no CRI log at all."""
        output: list[bytes] = []
        for raw in lines:
            if self.done:
                break
            try:
                self._feed_line(raw, output)
            except LogLineError:
                if not self._format_known:
                    text = raw.decode(errors="replace")
                    raise LogFileError(f'failed to get parse function: unsupported log format: "{text}"') from None
        return b"".join(output)

    def _feed_line(self, raw: bytes, output: list[bytes]) -> None:
        line = parse_line(raw)
        content = line.content
        wanted = self._since_ns is None or parse_timestamp_ns(line.timestamp) >= self._since_ns
        if wanted:
            text = content
            if self._timestamps and self._at_line_start:
                text = format_timestamp(line.timestamp) + b" " + content
            if self._remaining_bytes is not None:
                text = text[: self._remaining_bytes]
                self._remaining_bytes -= len(text)
                self.done = self._remaining_bytes <= 0
            output.append(text)
        self._format_known = True
        if self._remaining_lines is not None:
            self._remaining_lines -= 1
            self.done = self.done or self._remaining_lines == 0
        self._at_line_start = not content or content.endswith(b"\n")


def find_tail_start(descriptor: int, lines: int) -> int:
    """Offset from which the file holds `lines` newlines; reads backwards in blocks, never the whole file."""
    position = os.fstat(descriptor).st_size
    found = 0
    while position > 0:
        start = max(0, position - BLOCK_BYTES)
        block = os.pread(descriptor, position - start, start)
        count = block.count(b"\n")
        if found + count > lines:
            # The newline in front of the tail is in this block: skip the surplus ones.
            index = -1
            for _ in range(found + count - lines):
                index = block.index(b"\n", index + 1)
            return start + index + 1
        found += count
        position = start
    return 0


class LogReader:
    """An open log file. `read` returns formatted text block by block; a block may be all too old to be shown.

    pending: the last `read` was not at the end of the file, so the next one may bring more. Callers let others run in
             between: a filter by time goes through megabytes before it finds the first line.
    """

    def __init__(self, path: str, options: LogOptions, now_ns: int) -> None:
        self.path = os.path.realpath(path)
        self._follow = options.follow
        self._formatter = LogFormatter(options, now_ns)
        self._rest = b""
        self.pending = True
        try:
            self._descriptor = self._open()
        except OSError as error:
            raise LogFileError(
                f'failed to try resolving symlinks in path "{path}": lstat {path}: {_reason(error)}'
            ) from None
        self._offset = 0
        if options.tail_lines is not None:
            self._offset = find_tail_start(self._descriptor, options.tail_lines)

    def _open(self) -> int:
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)

    @property
    def done(self) -> bool:
        """Nothing more will come: a limit was reached."""
        return self._formatter.done

    def read(self) -> bytes:
        """Read one block. b"": nothing for the client, for now (`pending`) or up to the end. Raises LogFileError."""
        self.pending = False
        if self._formatter.done:
            return b""
        try:
            block = os.pread(self._descriptor, BLOCK_BYTES, self._offset)
        except OSError as error:
            raise LogFileError(f'failed to read log file "{self.path}": {_reason(error)}') from None
        if not block:
            return self._read_last_line()
        self._offset += len(block)
        lines = _split(self._rest + block)
        self._rest = lines.pop() if not lines[-1].endswith(b"\n") else b""
        text = self._formatter.feed(lines)
        self.pending = not self._formatter.done
        return text

    def _read_last_line(self) -> bytes:
        # A line without newline at the end of the file is still being written when we follow, else it is the last one.
        if self._follow or not self._rest:
            return b""
        rest, self._rest = self._rest, b""
        return self._formatter.feed([rest])

    def is_rotated(self) -> bool:
        """Whether there is a new file at the path (after a rename). The open one may still have to be read."""
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            return False
        here = os.fstat(self._descriptor)
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)

    def reopen(self) -> None:
        """Continue in the new file after a rotation, or stay with the old one when the new one is missing again."""
        try:
            fresh = self._open()
        except FileNotFoundError:
            return
        os.close(self._descriptor)
        self._descriptor, self._offset, self._rest = fresh, 0, b""

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def read_raw(path: str, max_bytes: int) -> Iterator[bytes]:
    """The lines of the file unchanged, block by block; of a longer file the last whole lines within max_bytes."""
    with open(path, "rb", buffering=0) as file:
        end = os.fstat(file.fileno()).st_size
        start = max(0, end - max_bytes)
        skipping = start > 0
        if skipping:
            start -= 1  # When the cut falls on the end of a line, that line's newline is all that is skipped.
        file.seek(start)
        while start < end and (block := file.read(min(BLOCK_BYTES, end - start))):
            start += len(block)
            if skipping:
                _, newline, block = block.partition(b"\n")
                skipping = not newline
            if block:
                yield block


def _split(data: bytes) -> list[bytes]:
    """Lines with their newline; the last element may lack one. (bytes.splitlines would also split at a lone CR.)"""
    lines = [line + b"\n" for line in data.split(b"\n")]
    last = lines.pop()[:-1]
    if last or not lines:
        lines.append(last)
    return lines


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
