"""Every method of SandboxService sends its request and returns its result, async and blocking."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from portico.client import Cancelled, Client, PorticoError, SyncClient
from portico.client.convert import to_duration
from portico.client.sync.blocking_sandboxes import BlockingTerminal
from portico.v1 import sandbox_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["SandboxService"]
BOX = pb.Sandbox(sandbox_id="sbx_1")
PROCESS = pb.Process(pid=7)
COMMAND = pb.Command(arguments=["ls"], cwd="/tmp", env={"A": "1"})
CELL_END = pb.RunCellResponse(end=pb.CellEnd(execution_count=1))
END = pb.ProcessEnd(exit_code=0)


class Recorder:
    """Records requests of every kind, and returns the given responses."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[Message]]] = []
        self.answers: list[Message] = []

    def handlers(self) -> list[Any]:
        methods = {}
        for method in SERVICE.methods:
            kind = ("stream" if method.client_streaming else "unary") + "_stream_rpc_method_handler"
            methods[method.name] = getattr(grpc, kind)(
                self._answer(method),
                GetMessageClass(method.input_type).FromString,
                lambda message: message.SerializeToString(),
            )
        return [grpc.method_handlers_generic_handler(SERVICE.full_name, methods)]

    def _answer(self, method: Any) -> Callable[[Any, Any], AsyncIterator[Message]]:
        async def answer(request: Any, context: Any) -> AsyncIterator[Message]:
            requests: list[Message] = []
            self.asked.append((method.name, requests))
            if not method.client_streaming:
                requests.append(request)
            elif method.server_streaming:
                requests.append(await anext(request))
            else:
                requests.extend([item async for item in request])
            for item in self.answers:
                yield item
            if method.client_streaming and method.server_streaming:
                async for item in request:
                    requests.append(item)  # noqa: PERF401 - the test looks while they come

        return answer


@pytest.fixture
async def recorder(tmp_path: Path) -> AsyncIterator[Recorder]:
    server = grpc.aio.server()
    recorder = Recorder()
    server.add_generic_rpc_handlers(recorder.handlers())
    server.add_insecure_port(f"unix:{tmp_path}/sandbox.sock")
    await server.start()
    yield recorder
    await server.stop(None)


# The client's call, the method, its request, its responses, and the result.
Case = tuple[Callable[[Any], Any], str, list[Message], list[Message], Any]
CASES: list[Case] = [
    (
        lambda s: s.create(pb.SandboxSpec(type="base"), session_id="s", user_id="u", fresh=True),
        "CreateSandbox",
        [pb.CreateSandboxRequest(session_id="s", user_id="u", spec=pb.SandboxSpec(type="base"), fresh=True)],
        [pb.CreateSandboxResponse(sandbox=BOX)],
        BOX,
    ),
    (
        lambda s: s.get("sbx_1"),
        "GetSandbox",
        [pb.GetSandboxRequest(sandbox_id="sbx_1")],
        [pb.GetSandboxResponse(sandbox=BOX)],
        BOX,
    ),
    (
        lambda s: s.list(user_id="u"),
        "ListSandboxes",
        [pb.ListSandboxesRequest(user_id="u")],
        [pb.ListSandboxesResponse(sandboxes=[BOX])],
        [BOX],
    ),
    (
        lambda s: s.touch("sbx_1"),
        "TouchSandbox",
        [pb.TouchSandboxRequest(sandbox_id="sbx_1")],
        [pb.TouchSandboxResponse(sandbox=BOX)],
        BOX,
    ),
    (
        lambda s: s.delete("sbx_1"),
        "DeleteSandbox",
        [pb.DeleteSandboxRequest(sandbox_id="sbx_1")],
        [pb.DeleteSandboxResponse()],
        None,
    ),
    (
        lambda s: s.pause("sbx_1"),
        "PauseSandbox",
        [pb.PauseSandboxRequest(sandbox_id="sbx_1")],
        [pb.PauseSandboxResponse()],
        None,
    ),
    (
        lambda s: s.resume("sbx_1"),
        "ResumeSandbox",
        [pb.ResumeSandboxRequest(sandbox_id="sbx_1")],
        [pb.ResumeSandboxResponse()],
        None,
    ),
    (
        lambda s: s.metrics("sbx_1"),
        "GetSandboxMetrics",
        [pb.GetSandboxMetricsRequest(sandbox_id="sbx_1")],
        [pb.GetSandboxMetricsResponse(processes=3)],
        pb.GetSandboxMetricsResponse(processes=3),
    ),
    (
        lambda s: s.run_cell("sbx_1", "1", timeout=2),
        "RunCell",
        [pb.RunCellRequest(sandbox_id="sbx_1", code="1", timeout=to_duration(2))],
        [pb.RunCellResponse(stdout=b"1"), pb.RunCellResponse(end=pb.CellEnd())],
        [pb.RunCellResponse(stdout=b"1"), pb.RunCellResponse(end=pb.CellEnd())],
    ),
    (
        lambda s: s.run_cell("sbx_1", "1"),
        "RunCell",
        [pb.RunCellRequest(sandbox_id="sbx_1", code="1")],
        [pb.RunCellResponse(stdout=b"1", more=[pb.RunCellResponse(stderr=b"2"), CELL_END])],
        [pb.RunCellResponse(stdout=b"1"), pb.RunCellResponse(stderr=b"2"), CELL_END],
    ),
    (
        lambda s: s.run_command("sbx_1", "ls", cwd="/tmp", env={"A": "1"}, stdin=b"x"),
        "RunCommand",
        [pb.RunCommandRequest(sandbox_id="sbx_1", command=COMMAND, stdin=b"x")],
        [pb.RunCommandResponse(end=END)],
        [pb.RunCommandResponse(end=END)],
    ),
    (
        lambda s: s.start_process("sbx_1", COMMAND, stdin=True),
        "StartProcess",
        [pb.StartProcessRequest(sandbox_id="sbx_1", command=COMMAND, stdin=True)],
        [pb.StartProcessResponse(process=PROCESS)],
        PROCESS,
    ),
    (
        lambda s: s.list_processes("sbx_1"),
        "ListProcesses",
        [pb.ListProcessesRequest(sandbox_id="sbx_1")],
        [pb.ListProcessesResponse(processes=[PROCESS])],
        (PROCESS,),
    ),
    (
        lambda s: s.write_process("sbx_1", 7, b"x", eof=True),
        "WriteProcess",
        [pb.WriteProcessRequest(sandbox_id="sbx_1", pid=7, data=b"x", eof=True)],
        [pb.WriteProcessResponse()],
        None,
    ),
    (
        lambda s: s.signal_process("sbx_1", 7, 9),
        "SignalProcess",
        [pb.SignalProcessRequest(sandbox_id="sbx_1", pid=7, signal=9)],
        [pb.SignalProcessResponse()],
        None,
    ),
    (
        lambda s: s.watch_process("sbx_1", 7, offset=3),
        "WatchProcess",
        [pb.WatchProcessRequest(sandbox_id="sbx_1", pid=7, offset=3)],
        [pb.WatchProcessResponse(end=END)],
        [pb.WatchProcessResponse(end=END)],
    ),
    (
        lambda s: s.list_tools("sbx_1"),
        "ListTools",
        [pb.ListToolsRequest(sandbox_id="sbx_1")],
        [pb.ListToolsResponse(tools=[pb.SandboxTool(name="t")])],
        (pb.SandboxTool(name="t"),),
    ),
    (
        lambda s: s.call_tool("sbx_1", "t", {"a": 1}),
        "CallTool",
        [pb.CallToolRequest(sandbox_id="sbx_1", name="t", arguments_json='{"a":1}')],
        [pb.CallToolResponse(result_json="{}")],
        "{}",
    ),
    (
        lambda s: s.read_file("sbx_1", "a", offset=1, length=2),
        "ReadFile",
        [pb.ReadFileRequest(sandbox_id="sbx_1", path="a", offset=1, length=2)],
        [pb.ReadFileResponse(data=b"x"), pb.ReadFileResponse(data=b"y")],
        [b"x", b"y"],
    ),
    (
        lambda s: s.write_file("sbx_1", "a", [b"x", "é".encode()], append=True),
        "WriteFile",
        [
            pb.WriteFileRequest(start=pb.WriteFileStart(sandbox_id="sbx_1", path="a", append=True)),
            pb.WriteFileRequest(data=b"x"),
            pb.WriteFileRequest(data="é".encode()),
        ],
        [pb.WriteFileResponse(size_bytes=3)],
        3,
    ),
    (
        lambda s: s.stat_file("sbx_1", "a"),
        "StatFile",
        [pb.StatFileRequest(sandbox_id="sbx_1", path="a")],
        [pb.StatFileResponse(file=pb.FileInfo(path="a"))],
        pb.FileInfo(path="a"),
    ),
    (
        lambda s: s.list_directory("sbx_1", depth=2),
        "ListDirectory",
        [pb.ListDirectoryRequest(sandbox_id="sbx_1", depth=2)],
        [pb.ListDirectoryResponse(files=[pb.FileInfo(path="a")])],
        (pb.FileInfo(path="a"),),
    ),
    (
        lambda s: s.make_directory("sbx_1", "a"),
        "MakeDirectory",
        [pb.MakeDirectoryRequest(sandbox_id="sbx_1", path="a")],
        [pb.MakeDirectoryResponse()],
        None,
    ),
    (
        lambda s: s.move_file("sbx_1", "a", "b", overwrite=True),
        "MoveFile",
        [pb.MoveFileRequest(sandbox_id="sbx_1", source="a", destination="b", overwrite=True)],
        [pb.MoveFileResponse()],
        None,
    ),
    (
        lambda s: s.remove_file("sbx_1", "a", recursive=True),
        "RemoveFile",
        [pb.RemoveFileRequest(sandbox_id="sbx_1", path="a", recursive=True)],
        [pb.RemoveFileResponse()],
        None,
    ),
    (
        lambda s: s.search_files("sbx_1", "*", path="d", text="t", exclude=["x"]),
        "SearchFiles",
        [pb.SearchFilesRequest(sandbox_id="sbx_1", path="d", pattern="*", text="t", exclude=["x"])],
        [pb.SearchFilesResponse(files=[pb.FoundFile(path="a", line=1)])],
        (pb.FoundFile(path="a", line=1),),
    ),
    (
        lambda s: s.edit_file("sbx_1", "a", {"b": "c"}, dry_run=True),
        "EditFile",
        [
            pb.EditFileRequest(
                sandbox_id="sbx_1",
                path="a",
                edits=[pb.FileEdit(old_text="b", new_text="c")],
                dry_run=True,
            )
        ],
        [pb.EditFileResponse(diff="d")],
        "d",
    ),
    (
        lambda s: s.watch_files("sbx_1", "d", recursive=True),
        "WatchFiles",
        [pb.WatchFilesRequest(sandbox_id="sbx_1", path="d", recursive=True)],
        [pb.WatchFilesResponse(type="ready")],
        [pb.WatchFilesResponse(type="ready")],
    ),
    (
        lambda s: s.create_port_access("sbx_1", 80, lifetime=1),
        "CreatePortAccess",
        [pb.CreatePortAccessRequest(sandbox_id="sbx_1", port=80, lifetime=to_duration(1))],
        [pb.CreatePortAccessResponse(access_token="t")],
        pb.CreatePortAccessResponse(access_token="t"),
    ),
    (
        lambda s: s.create_checkpoint("sbx_1", "c"),
        "CreateCheckpoint",
        [pb.CreateCheckpointRequest(sandbox_id="sbx_1", name="c")],
        [pb.CreateCheckpointResponse()],
        None,
    ),
    (
        lambda s: s.roll_back("sbx_1", snapshot_id="snap_1"),
        "RollBack",
        [pb.RollBackRequest(sandbox_id="sbx_1", snapshot_id="snap_1")],
        [pb.RollBackResponse(kernel_restored=True)],
        True,
    ),
    (
        lambda s: s.create_snapshot("sbx_1"),
        "CreateSnapshot",
        [pb.CreateSnapshotRequest(sandbox_id="sbx_1")],
        [pb.CreateSnapshotResponse(snapshot_id="snap_1")],
        pb.CreateSnapshotResponse(snapshot_id="snap_1"),
    ),
    (
        lambda s: s.list_snapshots(user_id="u", sandbox_id="sbx_1"),
        "ListSnapshots",
        [pb.ListSnapshotsRequest(user_id="u", sandbox_id="sbx_1")],
        [pb.ListSnapshotsResponse(snapshots=[pb.SandboxSnapshot(snapshot_id="snap_1")])],
        [pb.SandboxSnapshot(snapshot_id="snap_1")],
    ),
    (
        lambda s: s.delete_snapshot("snap_1"),
        "DeleteSnapshot",
        [pb.DeleteSnapshotRequest(snapshot_id="snap_1")],
        [pb.DeleteSnapshotResponse()],
        None,
    ),
    (
        lambda s: s.fork(sandbox_id="sbx_1", session_id="s"),
        "ForkSandbox",
        [pb.ForkSandboxRequest(sandbox_id="sbx_1", session_id="s")],
        [pb.ForkSandboxResponse(sandbox=BOX)],
        BOX,
    ),
]


NAMES = ("call", "method", "requests", "answers", "result")


@pytest.mark.parametrize(NAMES, CASES, ids=[case[1] for case in CASES])
async def test_a_call_asks_and_returns(
    recorder: Recorder,
    tmp_path: Path,
    call: Callable[[Any], Any],
    method: str,
    requests: list[Message],
    answers: list[Message],
    result: Any,
) -> None:
    recorder.answers = answers
    target = f"unix:{tmp_path}/sandbox.sock"
    async with Client(target) as client:
        made = call(client.sandboxes)
        got = [item async for item in made] if hasattr(made, "__aiter__") else await made
        assert got == result
    assert recorder.asked == [(method, requests)]

    def without_async() -> Any:
        with SyncClient(target) as client:
            made = call(client.sandboxes)
            return list(made) if isinstance(result, list) else made

    assert await asyncio.to_thread(without_async) == result
    assert recorder.asked == [(method, requests)] * 2


def test_every_rpc_of_the_contract_is_called() -> None:
    both_ways = {"OpenTerminal", "ConnectPort", "RunCells"}
    assert {case[1] for case in CASES} | both_ways == {method.name for method in SERVICE.methods}


async def test_cells_over_one_stream(recorder: Recorder, tmp_path: Path) -> None:
    target = f"unix:{tmp_path}/sandbox.sock"
    said = pb.RunCellResponse(stdout=b"1")
    recorder.answers = [
        pb.RunCellsResponse(sandbox=BOX),
        pb.RunCellsResponse(cell=said),
        pb.RunCellsResponse(cell=pb.RunCellResponse(stderr=b"2", more=[CELL_END])),
        pb.RunCellsResponse(cell=CELL_END),
    ]
    create = pb.CreateSandboxRequest(session_id="s", user_id="ann", spec=pb.SandboxSpec(type="base"))
    asked = [
        pb.RunCellsRequest(create=create, code="1"),
        pb.RunCellsRequest(code="2", timeout=to_duration(2)),
    ]
    first = [said, pb.RunCellResponse(stderr=b"2"), CELL_END]
    async with Client(target) as client:
        made = client.sandboxes.cells(spec=create.spec, session_id="s", user_id="ann")
        async with made as cells:
            assert [event async for event in cells.run("1")] == first
            assert await cells.sandbox() == BOX
            assert [event async for event in cells.run("2", timeout=2)] == [CELL_END]
        async with client.sandboxes.cells("sbx_1") as cells:
            assert await cells.sandbox() == BOX
            left = cells.run("1")
            await anext(left)
            await left.aclose()
            with pytest.raises(Cancelled):
                await anext(cells.run("2"))

    def without_async() -> None:
        with (
            SyncClient(target) as client,
            client.sandboxes.cells(spec=create.spec, session_id="s", user_id="ann") as cells,
        ):
            assert list(cells.run("1")) == first
            assert cells.sandbox() == BOX
            assert list(cells.run("2", timeout=2)) == [CELL_END]

    await asyncio.to_thread(without_async)
    one, other, three = (requests for _, requests in recorder.asked)
    assert one == three == asked
    assert other[0] == pb.RunCellsRequest(sandbox_id="sbx_1")


async def test_a_terminal(recorder: Recorder, tmp_path: Path) -> None:
    shown = [pb.OpenTerminalResponse(output=b"$ "), pb.OpenTerminalResponse(end=END)]
    size = pb.TerminalSize(rows=5, columns=6)
    start = pb.TerminalStart(sandbox_id="sbx_1", command=COMMAND, size=size)
    typed = [
        pb.OpenTerminalRequest(start=start),
        pb.OpenTerminalRequest(input=b"ls"),
        pb.OpenTerminalRequest(size=pb.TerminalSize(rows=7, columns=8)),
    ]
    recorder.answers = list[Message](shown)

    async def all_typed(requests: list[Message]) -> None:
        async with asyncio.timeout(5):
            while requests != typed:
                await asyncio.sleep(0.01)

    async with Client(f"unix:{tmp_path}/sandbox.sock") as client:
        terminal = await client.sandboxes.open_terminal("sbx_1", COMMAND, rows=5, columns=6)
        assert [await terminal.read(), await terminal.read()] == shown
        await terminal.write(b"ls")
        await terminal.resize(7, 8)
        await all_typed(recorder.asked[0][1])
        await terminal.close()

    without = await asyncio.to_thread(SyncClient, f"unix:{tmp_path}/sandbox.sock")

    def without_async() -> BlockingTerminal:
        terminal = without.sandboxes.open_terminal("sbx_1", COMMAND, rows=5, columns=6)
        assert [terminal.read(), terminal.read()] == shown
        terminal.write(b"ls")
        terminal.resize(7, 8)
        return terminal

    opened = await asyncio.to_thread(without_async)
    await all_typed(recorder.asked[1][1])
    await asyncio.to_thread(opened.close)
    await asyncio.to_thread(without.close)


async def test_a_file_that_is_opened(recorder: Recorder, tmp_path: Path) -> None:
    opened = pb.OpenedFile(file=pb.FileInfo(path="a", size_bytes=9, version="v"), offset=6, length=3)
    recorder.answers = [
        pb.ReadFileResponse(opened=opened),
        pb.ReadFileResponse(data=b"xy"),
        pb.ReadFileResponse(data=b"z"),
    ]
    target = f"unix:{tmp_path}/sandbox.sock"
    async with Client(target) as client, await client.sandboxes.open_file("sbx_1", "a", last_bytes=3) as file:
        assert (file.file, file.offset, file.length) == (opened.file, 6, 3)
        assert [piece async for piece in file] == [b"xy", b"z"]

    def without_async() -> None:
        with SyncClient(target) as client, client.sandboxes.open_file("sbx_1", "a", last_bytes=3) as file:
            assert (file.file, file.offset, file.length) == (opened.file, 6, 3)
            assert list(file) == [b"xy", b"z"]

    await asyncio.to_thread(without_async)
    asked = [pb.ReadFileRequest(sandbox_id="sbx_1", path="a", last_bytes=3)]
    assert recorder.asked == [("ReadFile", asked)] * 2


async def test_a_connection_to_a_port(recorder: Recorder, tmp_path: Path) -> None:
    recorder.answers = [pb.ConnectPortResponse(), pb.ConnectPortResponse(data=b"x")]
    target = f"unix:{tmp_path}/sandbox.sock"
    asked = [
        pb.ConnectPortRequest(start=pb.PortStart(sandbox_id="sbx_1", port=80)),
        pb.ConnectPortRequest(data=b"hi"),
    ]
    async with Client(target) as client, await client.sandboxes.connect_port("sbx_1", 80) as connection:
        assert await connection.read() == b"x"
        await connection.write(b"hi")
        await connection.end_write()
        assert await connection.read() == b""

    def without_async() -> None:
        with SyncClient(target) as client, client.sandboxes.connect_port("sbx_1", 80) as connection:
            assert connection.read() == b"x"
            connection.write(b"hi")
            connection.end_write()
            assert connection.read() == b""

    await asyncio.to_thread(without_async)
    assert recorder.asked == [("ConnectPort", asked)] * 2


async def test_a_core_that_is_away_is_a_typed_error(tmp_path: Path) -> None:
    async with Client(f"unix:{tmp_path}/nobody.sock", timeout=1) as client:
        for work in (
            client.sandboxes.connect_port("sbx_1", 80),
            client.sandboxes.write_file("sbx_1", "a", b"x" * 1_000_000),
            anext(client.sandboxes.run_cell("sbx_1", "1")),
        ):
            with pytest.raises(PorticoError):
                await asyncio.wait_for(work, 10)
