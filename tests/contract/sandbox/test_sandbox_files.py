"""Files: all operations, and paths that try to lead outside."""

import asyncio
import io
import os
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest

from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.events import Change
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.inside import wire
from portico.sandbox.spec import Limits, Spec


async def test_write_read_stat_list_move_remove(box: SandboxHandle) -> None:
    assert await box.files.write("a/b/c.txt", "text") == 4
    assert await box.files.read("/workspace/a/b/c.txt") == b"text"
    await box.files.write("a/b/c.txt", b" and more", append=True)
    entry = await box.files.stat("a/b/c.txt")
    assert (entry.type, entry.size) == ("file", 13)
    assert [found.path for found in await box.files.list_directory("a", depth=3)] == ["a/b", "a/b/c.txt"]
    await box.files.make_directory("d/e")
    await box.files.move("a/b/c.txt", "d/e/f.txt")
    with pytest.raises(errors.EntryNotFound):
        await box.files.read("a/b/c.txt")
    with pytest.raises(errors.OperationFailed):
        await box.files.remove("d")
    await box.files.remove("d", recursive=True)
    assert not await box.files.exists("d")
    with pytest.raises(errors.EntryNotFound):
        await box.files.remove("d")
    with pytest.raises(errors.EntryExists):
        await box.files.make_directory("a", parents=False)


async def test_search_and_edit(box: SandboxHandle) -> None:
    await box.files.write("src/one.py", "def one():\n    return 1\n")
    await box.files.write("src/two.txt", "return")
    assert [found.path for found in await box.files.search(".", "*.py")] == ["./src/one.py"]
    found = await box.files.search(".", text="return", exclude=["*.txt"])
    assert [(one.path, one.line) for one in found] == [("./src/one.py", 2)]
    diff = await box.files.edit("src/one.py", [("return 1", "return 2")], dry_run=True)
    assert "+    return 2" in diff
    assert b"return 1" in await box.files.read("src/one.py")
    await box.files.edit("src/one.py", [("return 1", "return 2")])
    assert b"return 2" in await box.files.read("src/one.py")
    with pytest.raises(errors.EditMismatch):
        await box.files.edit("src/one.py", [("absent", "x")])


async def test_a_large_file_streams_both_ways(box: SandboxHandle) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(12):
            yield bytes([number]) * (1 << 20)

    assert await box.files.upload("large", pieces()) == 12 << 20
    size = 0
    async with aclosing(box.files.download("large")) as parts:
        async for part in parts:
            size += len(part)
    assert size == 12 << 20
    async with aclosing(box.files.download("large", offset=(1 << 20) - 1, length=2)) as parts:
        assert b"".join([part async for part in parts]) == b"\x00\x01"


async def test_a_broken_upload_leaves_the_old_content_and_no_rest(box: SandboxHandle) -> None:
    await box.files.write("kept", "old")

    async def broken() -> AsyncIterator[bytes]:
        yield b"new"
        raise RuntimeError("the client is gone")

    with pytest.raises(RuntimeError):
        await box.files.upload("kept", broken())
    assert await box.files.read("kept") == b"old"
    assert [entry.path for entry in await box.files.list_directory()] == ["./kept"]
    with pytest.raises(errors.LimitExceeded):
        await box.files.write("too large", bytes(20 << 20))
    assert [entry.path for entry in await box.files.list_directory()] == ["./kept"]


@pytest.mark.parametrize(
    "path",
    [
        "../etc/passwd", "/etc/passwd", "/workspace/../etc/passwd", "/workspace-evil/x", "a/../../etc/passwd",
        "/proc/self/environ", "/proc/1/mem", "nul\0byte", "/", "out/passwd", "absolute", "magic/fd/0",
    ],
)  # fmt: skip
async def test_no_path_leads_out(box: SandboxHandle, path: str) -> None:
    await box.run_shell("ln -s ../etc out; ln -s /etc/passwd absolute; ln -s /proc/self magic")
    with pytest.raises(errors.SandboxError):
        await box.files.read(path)
    with pytest.raises((errors.InvalidPath, errors.OperationFailed)):
        await box.files.write(path + "/x", "y")
    with pytest.raises(errors.SandboxError):
        await box.files.list_directory(path)


async def test_only_regular_files_are_read_and_a_link_is_replaced_not_followed(box: SandboxHandle) -> None:
    await box.run_shell("mkfifo pipe; ln -s /etc/passwd link; ln -s /dev/zero zero")
    async with asyncio.timeout(5):
        for path in ("pipe", "zero", "."):
            with pytest.raises(errors.InvalidPath):
                await box.files.read(path)
    await box.files.write("link", "mine")
    assert await box.files.read("link") == b"mine"


async def test_a_hostile_archive_stays_inside(box: SandboxHandle) -> None:
    def archive(name: str, **fields: object) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            member = tarfile.TarInfo(name)
            for key, value in fields.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(bytes(member.size)))
        return buffer.getvalue()

    async def once(data: bytes) -> AsyncIterator[bytes]:
        yield data

    for name, fields in (
        ("../escape", {"size": 1}),
        ("link", {"type": tarfile.SYMTYPE, "linkname": "/etc"}),
        ("dev", {"type": tarfile.CHRTYPE}),
    ):
        with pytest.raises(errors.InvalidRequest):
            await box.files.unpack(once(archive(name, **fields)))
    await box.files.unpack(once(archive("setuid", mode=0o4755, size=1)))
    assert (await box.files.stat("setuid")).mode & 0o7000 == 0
    with pytest.raises(errors.LimitExceeded):
        await box.files.unpack(once(archive("bomb", size=40 << 20)))


async def test_a_directory_packs_and_unpacks(box: SandboxHandle) -> None:
    await box.files.write("d/one", "1")
    packed = b"".join([piece async for piece in box.files.pack("d")])

    async def once() -> AsyncIterator[bytes]:
        yield packed

    await box.files.make_directory("e")
    await box.files.write("e/old", "x")
    await box.files.unpack(once(), "e", clear=True)
    assert [entry.path for entry in await box.files.list_directory("e")] == ["e/one"]


async def test_changes_are_told(box: SandboxHandle) -> None:
    async with asyncio.timeout(20), aclosing(box.files.watch(".", recursive=True)) as changes:
        assert (await anext(changes)).type == "ready"
        await box.run_shell("mkdir -p d/e; echo x > d/e/f")  # faster than a watch can be set
        seen = set()
        while ("created", "./d/e/f") not in seen:
            change = await anext(changes)
            seen.add((change.type, change.path))
    assert {("created", "./d"), ("created", "./d/e")} <= seen


async def test_changes_that_nobody_reads_become_one_overflow(box: SandboxHandle) -> None:
    async with asyncio.timeout(60), aclosing(box.files.watch()) as changes:
        assert (await anext(changes)).type == "ready"
        churn = "import os\nfor _ in range(15_000):\n    os.mkdir('d'); os.rmdir('d')"
        assert (await box.run_cell(churn, timeout=20)).ok
        (call,) = box.channel._calls.values()
        assert sum(len(payload) + wire.OVERHEAD for _, payload in call._frames) <= wire.WINDOW + wire.CHUNK
        seen: list[Change] = []
        reading = asyncio.ensure_future(_collect(changes, seen))
        known = -1
        while known != len(seen):
            known = len(seen)
            await asyncio.sleep(1)
        assert 0 < [change.type for change in seen].count("overflow") < 20
        assert len(seen) < 30_000
        await box.files.write("after", "x")
        while "./after" not in [change.path for change in seen[known:]]:
            await asyncio.sleep(0.05)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _collect(changes: AsyncGenerator[Change, None], seen: list[Change]) -> None:
    while True:
        seen.append(await anext(changes))


async def _until(changes: AsyncGenerator[Change, None], path: str) -> AsyncGenerator[Change, None]:
    async for change in changes:
        yield change
        if change.path == path:
            return


async def test_a_watch_of_many_directories_lets_other_calls_through(box: SandboxHandle) -> None:
    await box.run_shell("mkdir -p t/{1..12}/{1..12}")
    async with asyncio.timeout(30), aclosing(box.files.watch("t", recursive=True)) as changes:
        assert (await anext(changes)).type == "ready"
        await box.files.write("t/12/12/new", "x")
        assert [change async for change in _until(changes, "t/12/12/new")]


async def test_names_that_are_no_utf_8_are_names_like_any_other(box: SandboxHandle) -> None:
    made = await box.run_shell("mkdir \"$(printf 'd\\377')\" && printf x > \"$(printf 'd\\377/f\\303(')\"")
    assert made.ok
    (folder, file) = [entry.path for entry in await box.files.list_directory(depth=2)]
    assert os.fsencode(file) == b"./d\xff/f\xc3("
    assert await box.files.read(file) == b"x"
    assert (await box.files.stat(file)).size == 1
    await box.files.write(file, "y")
    assert await box.files.read(file) == b"y"
    await box.files.edit(file, [("y", "z")])
    assert [os.fsencode(one.path) for one in await box.files.search(".", text="z")] == [b"./d\xff/f\xc3("]
    await box.files.move(file, f"{folder}/\udcfe")
    await box.files.make_directory(f"{folder}/\udcfd")
    said = await box.run_shell("printf '%s\\n' * | od -An -c; printf '%s\\n' d*/* | wc -l")
    assert said.stdout.split() == [b"d", b"377", b"\\n", b"2"]
    async with aclosing(box.files.watch(folder)) as changes:
        assert (await anext(changes)).type == "ready"
        await box.files.write(f"{folder}/\udcfc", "new")
        seen = (await anext(changes)).path
    assert seen.startswith("./d\udcff/")
    await box.files.remove(folder, recursive=True)
    assert await box.files.list_directory() == []
    long = "文" * 85  # the most bytes that a name may have
    await box.files.write(long, "a")
    await box.files.edit(long, [("a", "b")])
    assert await box.files.read(long) == b"b"


async def test_a_directory_is_listed_page_by_page_and_nothing_is_missing(box: SandboxHandle) -> None:
    code = """
import os
for top in ("a", "b", "b.d", "c"):
    for number in range(20):
        os.makedirs(f"{top}/{number}/x", exist_ok=True)
        open(f"{top}/{number}/x/f", "w").close()
"""
    assert (await box.run_cell(code)).ok
    whole = [entry.path for entry in await box.files.list_directory(depth=4)]
    assert len(whole) == 4 + 3 * 4 * 20
    assert whole == sorted(whole, key=lambda path: path.split("/"))
    for depth, count in ((4, 7), (4, 100), (2, 1), (4, len(whole)), (4, len(whole) - 1)):
        expected = [path for path in whole if path.count("/") <= depth]
        listed: list[str] = []
        after, pages = "", 0
        while after or not pages:
            page, after = await box.files.list_page(depth=depth, count=count, after=after)
            listed += [entry.path for entry in page]
            pages += 1
        assert listed == expected
        assert pages == -(-len(expected) // count)
    names = sorted(str(number) for number in range(20))
    _, after = await box.files.list_page("b", count=5)
    await box.files.remove(f"b/{after}", recursive=True)
    rest, _ = await box.files.list_page("b", after=after)
    assert [entry.path for entry in rest] == [f"b/{name}" for name in names[5:]]


async def test_home_user_is_a_name_of_the_workspace(box: SandboxHandle) -> None:
    await box.files.write("/home/user/a/b", "x")
    assert await box.files.read("/workspace/a/b") == b"x"
    assert (await box.run_shell("cd /home/user && cat a/b && pwd -P")).stdout == b"x/workspace\n"
    assert [entry.path for entry in await box.files.list_directory("/home/user/a")] == ["/home/user/a/b"]
    await box.files.move("/home/user/a/b", "/workspace/c")
    await box.files.remove("/home/user/c")
    for path in ("/home/user", "/home/user/../x", "/home/users/x"):
        with pytest.raises((errors.InvalidPath, errors.EntryNotFound)):
            await box.files.remove(path)


async def test_a_search_that_finds_too_much_says_so(backend: Backend) -> None:
    box = await backend.create(Spec(limits=Limits(inodes=20_000)))
    made = await box.run_shell("mkdir many; cd many; seq 10001 | sed 's/$/.txt/' | xargs touch")
    assert made.ok
    assert len(await box.files.search("many", "1000*")) == 3
    with pytest.raises(errors.LimitExceeded) as refused:
        await box.files.search(".", "*.txt")
    assert refused.value.limit == "output"
