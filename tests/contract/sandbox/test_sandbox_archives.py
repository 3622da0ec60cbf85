"""Untrusted archives are unpacked within the sandbox's limits, through no link, and never outside."""

import io
import tarfile
from collections.abc import AsyncIterator

import pytest

from portico.sandbox import errors
from portico.sandbox.handle.sandbox_handle import SandboxHandle


async def once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for told, content in members:
            tar.addfile(told, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    told = tarfile.TarInfo(name)
    told.size = len(content)
    for field, value in fields.items():
        setattr(told, field, value)
    return told, content


def sparse(size: int, *numbers: int, data: bytes = b"") -> tuple[tarfile.TarInfo, bytes]:
    """An archive with a sparse file of that size, whose table may contain arbitrary numbers."""
    table = b"".join(b"%d\n" % number for number in numbers)
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "sparse"}
    content = table + bytes(-len(table) % 512) + data
    return member("sparse", content, pax_headers=headers | {"GNU.sparse.realsize": str(size)})


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=kind, linkname=target)


REFUSED = {
    "a file through a link": archive(link("in", "/tmp"), member("in/file", b"x")),
    "a file through a link to a link": archive(link("a", "/tmp"), link("b", "a"), member("b/file", b"x")),
    "a link through a link": archive(link("in", "/tmp"), link("in/other", "x")),
    "a hard link through a link": archive(link("in", "/tmp"), link("hard", "in/outside", tarfile.LNKTYPE)),
    "a directory through a link": archive(link("in", "/tmp"), member("in/x/y", type=tarfile.DIRTYPE)),
    "a name that leads out": archive(member("a/../../tmp/file", b"x")),
    "an absolute name": archive(member("/tmp/file", b"x")),
    "a larger file than the disk": archive(sparse(1 << 40, 0)),
    "a file of no size there is": archive(sparse(1 << 70, 0)),
    "data before the file": archive(sparse(4096, 1, -4096, 512, data=b"x" * 512)),
    "data far behind the file": archive(sparse(4096, 1, 1 << 62, 512, data=b"x" * 512)),
    "more data than there is": archive(sparse(4096, 1, 0, 1 << 40, data=b"x" * 512)),
    "a table without an end": archive(sparse(4096, 1 << 60)),
    "an end in the middle": archive(member("file", b"x" * 100_000))[:50_000],
}


_REASONS = (errors.InvalidRequest, errors.LimitExceeded, errors.OperationFailed, errors.EntryNotFound)


async def test_archives_write_nothing_outside_and_end_typed(box: SandboxHandle) -> None:
    await box.files.write("/tmp/outside", "unharmed")
    for name, data in REFUSED.items():
        await box.run_shell("rm -rf /workspace/*")
        with pytest.raises(_REASONS):
            # Links to any target may be created, but nothing may be written through them.
            await box.files.unpack(once(data), exact=True, timeout=30)
        outside = await box.files.list_directory("/tmp")
        assert [entry.path for entry in outside] == ["/tmp/outside"], name
        assert await box.files.read("/tmp/outside") == b"unharmed", name
        assert (await box.metrics()).disk_bytes < 1 << 20, name
    for target in ("/etc", "../..", "b/../../.."):
        data = archive(link("out", target))
        with pytest.raises(errors.InvalidRequest):
            await box.files.unpack(once(data))
    assert (await box.run_cell("1")).ok


async def test_what_an_archive_replaces_is_not_written_through(box: SandboxHandle) -> None:
    await box.files.write("/tmp/outside", "as it was")
    await box.run_shell("ln -s /tmp/outside linked; echo one > first; ln first second")
    await box.files.unpack(once(archive(member("linked", b"new"), member("first", b"two"))))
    assert await box.files.read("/tmp/outside") == b"as it was"
    assert [await box.files.read(name) for name in ("linked", "first", "second")] == [
        b"new",
        b"two",
        b"one\n",
    ]
