"""The public classes: names and results, synchronous and asynchronous."""

from typing import Any

import pytest
from support.syscall_traces import no_traces

from portico.sandbox import BaseSandbox, BaseSandboxAsync, FilesystemSandbox, FilesystemSandboxAsync, errors


def text(result: dict[str, Any], description: str | None) -> list[str]:
    return [part["text"] for part in result["content"] if part.get("description") == description]


async def test_state_lives_on_and_is_error_tells_the_outcome() -> None:
    with BaseSandbox() as box:
        assert box.run_ipython_cell(code="print('Hello, World!')")["content"][0]["text"] == "Hello, World!\n"
        box.run_ipython_cell(code="x = 21")
        assert text(box.run_ipython_cell(code="x * 2"), "result") == ["42"]
        harmless = box.run_ipython_cell(code="import sys; print('careful', file=sys.stderr)")
        assert (harmless["isError"], text(harmless, "stderr")) == (False, ["careful\n"])
        assert box.run_ipython_cell(code="1 / 0")["isError"]
        assert box.run_ipython_cell(code="import os; os._exit(1)")["structuredContent"] == {
            "reason": "KERNEL_DIED"
        }
        shell = box.run_shell_command(command="echo hello; exit 3")
        assert shell["isError"]
        assert (text(shell, "stdout"), text(shell, "returncode")) == (["hello\n"], ["3"])
        assert not box.run_shell_command(command="echo careful >&2")["isError"]
        assert set(box.list_tools()["generic"]) == {"run_ipython_cell", "run_shell_command"}
        assert not box.call_tool("run_ipython_cell", {"code": "1"})["isError"]
        for name, arguments in (
            ("nonsense", {}),
            ("run_ipython_cell", {}),
            ("run_ipython_cell", {"code": 1}),
        ):
            with pytest.raises(errors.InvalidRequest):
                box.call_tool(name, arguments)
        with pytest.raises(errors.InvalidRequest):
            box.call_tool("read_file", {"path": "x"})
    with pytest.raises(errors.SandboxNotFound):
        box.run_ipython_cell(code="1")
    assert await no_traces()


def test_file_tools() -> None:
    with FilesystemSandbox() as box:
        assert not box.write_file("a/b.txt", "one\n")["isError"]
        assert box.read_file("/workspace/a/b.txt")["content"][0]["text"] == "one\n"
        diff = box.edit_file("a/b.txt", [{"oldText": "one", "newText": "two"}], dry_run=True)
        assert "+two" in diff["content"][0]["text"]
        assert "one" in box.read_file("a/b.txt")["content"][0]["text"]
        box.create_directory("a/c")
        assert box.list_directory("a")["content"][0]["text"] == "[FILE] b.txt\n[DIR] c"
        assert '"name": "b.txt"' in box.directory_tree(".")["content"][0]["text"]
        box.move_file("a/b.txt", "a/c/d.txt")
        assert box.search_files(".", "d.t")["content"][0]["text"] == "./a/c/d.txt"
        assert box.get_file_info("a/c/d.txt")["structuredContent"]["size"] == 4
        assert "Error" in box.read_multiple_files(["a/c/d.txt", "none"])["content"][0]["text"]
        assert "/workspace" in box.list_allowed_directories()["content"][0]["text"]
        for path in ("../etc/passwd", "/etc/passwd", "none"):
            assert box.read_file(path)["isError"]


async def test_the_async_classes_have_the_same_names() -> None:
    async with BaseSandboxAsync() as box:
        assert text(await box.run_ipython_cell(code="6 * 7"), "result") == ["42"]
        assert (await box.get_info())["backend"] == "local"
    for twin in ((BaseSandbox, BaseSandboxAsync), (FilesystemSandbox, FilesystemSandboxAsync)):
        names = [{name for name in vars(one) if not name.startswith("_")} for one in twin]
        assert names[1] - {"type", "box"} == names[0] - {"twin"}
