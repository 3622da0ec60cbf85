"""Lines in a file: complete, in order, readable by the owner only, and written in the background."""

import logging
import os
import threading
from contextlib import closing
from pathlib import Path

import pytest

from portico.telemetry.log.line_writer import LineWriter


def test_lines_are_written_in_order_and_all_of_them_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    with closing(LineWriter(path)) as told:
        for number in range(25_000):  # more than the queue takes
            told.write(b"%d" % number)
    assert path.read_bytes().split() == [b"%d" % number for number in range(25_000)]


def test_who_writes_is_told_what_threads_wrote_at_once(tmp_path: Path) -> None:
    with closing(LineWriter(tmp_path / "l")) as told:

        def work(number: int) -> None:
            for _ in range(2000):
                told.write(b"%d" % number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = (tmp_path / "l").read_bytes().split()
    assert sorted(found) == sorted(b"%d" % n for n in range(4) for _ in range(2000))


def test_a_file_may_be_moved_away_and_each_is_its_owners(tmp_path: Path) -> None:
    path, moved = tmp_path / "audit.log", tmp_path / "audit.log.1"
    before = os.umask(0)
    try:
        with closing(LineWriter(path)) as told:
            told.write(b"first")
            while path.read_bytes() != b"first\n":
                pass
            path.rename(moved)
            for number in range(1000):
                told.write(b"%d" % number)
    finally:
        os.umask(before)
    assert moved.read_bytes() == b"first\n"
    assert path.read_text().split() == [str(number) for number in range(1000)]
    assert {file.stat().st_mode & 0o777 for file in (path, moved)} == {0o600}


def test_a_file_that_cant_be_written_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        LineWriter(tmp_path / "nowhere" / "audit.log")


def test_lines_that_are_lost_are_logged_and_the_next_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write, calls = os.write, []

    def full(file: int, data: memoryview) -> int:
        calls.append(bytes(data))
        if len(calls) == 1:
            return write(file, data[:3])
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return write(file, data)

    path = tmp_path / "audit.log"
    with caplog.at_level(logging.ERROR), closing(LineWriter(path)) as told:
        monkeypatch.setattr(os, "write", full)
        told.write(b"one")
        told.write(b"two")
        while len(calls) < 2:
            pass
        told.write(b"three")
    assert path.read_bytes() in (b"one\nthree\n", b"one\n\nthree\n")
    [record] = caplog.records
    assert "lines are lost: [Errno 28] No space left" in record.message


def test_a_disk_that_takes_a_part_gets_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    path = tmp_path / "l"
    with closing(LineWriter(path)) as told:
        monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:2]))
        told.write(b"abc")
        told.write(b"defgh")
    assert path.read_bytes() == b"abc\ndefgh\n"


def test_a_file_that_somebody_else_has_made_is_its_owners_too(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.touch(0o644)
    path.chmod(0o644)
    file = LineWriter(path)
    try:
        assert path.stat().st_mode & 0o777 == 0o600
        path.rename(tmp_path / "audit.log.1")
        path.touch()
        path.chmod(0o666)  # as a tool that rotates files may do
        file.write(b"after the rotation")
    finally:
        file.close()
    assert path.read_text() == "after the rotation\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_no_file_keeps_its_rights(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    pipe.chmod(0o622)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    file = LineWriter(pipe)
    file.write(b"told")
    file.close()
    assert os.read(reading, 100) == b"told\n"
    os.close(reading)
    assert pipe.stat().st_mode & 0o777 == 0o622
