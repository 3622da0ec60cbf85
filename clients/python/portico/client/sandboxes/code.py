"""Executes code in a sandbox: cells, commands, processes, tools."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, TypeVar

import grpc.aio

from portico.client.convert import Json, json_text, to_duration
from portico.client.errors import typed_errors
from portico.client.service import Service
from portico.v1 import sandbox_pb2

CommandLike = str | Sequence[str]
T = TypeVar("T")


def to_command(
    command: CommandLike | sandbox_pb2.Command, cwd: str = "", env: Mapping[str, str] | None = None
) -> sandbox_pb2.Command:
    """Converts a shell command line, or a list with a program and its arguments, to a command of the
    contract.
    """
    if isinstance(command, sandbox_pb2.Command):
        return command
    words = [command] if isinstance(command, str) else command
    return sandbox_pb2.Command(arguments=words, cwd=cwd, env=env)


class SandboxCode(Service):
    """The methods of Sandboxes that execute code."""

    async def run_cell(
        self, sandbox_id: str, code: str, *, timeout: float | None = None
    ) -> AsyncGenerator[sandbox_pb2.RunCellResponse, None]:
        """Executes a Python cell and yields its events; the last event is the end.

        Names stay defined for later cells. Leaving the iteration interrupts the cell.
        """
        request = sandbox_pb2.RunCellRequest(
            sandbox_id=sandbox_id, code=code, timeout=None if timeout is None else to_duration(timeout)
        )
        stub = self._calls.connection.sandboxes
        async for item in self._read(stub.RunCell(request, metadata=self._calls.metadata)):
            more = list(item.more)
            item.ClearField("more")
            yield item
            for following in more:
                yield following

    async def run_command(
        self,
        sandbox_id: str,
        command: CommandLike | sandbox_pb2.Command,
        *,
        cwd: str = "",
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float | None = None,
    ) -> AsyncGenerator[sandbox_pb2.RunCommandResponse, None]:
        """Runs a command to its end, which is the last event.

        Leaving the iteration kills the command and all processes that it started.
        """
        request = sandbox_pb2.RunCommandRequest(
            sandbox_id=sandbox_id,
            command=to_command(command, cwd, env),
            stdin=stdin,
            timeout=None if timeout is None else to_duration(timeout),
        )
        stub = self._calls.connection.sandboxes
        async for item in self._read(stub.RunCommand(request, metadata=self._calls.metadata)):
            yield item

    async def start_process(
        self,
        sandbox_id: str,
        command: CommandLike | sandbox_pb2.Command,
        *,
        cwd: str = "",
        env: Mapping[str, str] | None = None,
        stdin: bool = False,
    ) -> sandbox_pb2.Process:
        """Starts a command in the background; `stdin` keeps its input open for write_process."""
        request = sandbox_pb2.StartProcessRequest(
            sandbox_id=sandbox_id, command=to_command(command, cwd, env), stdin=stdin
        )
        return (await self._calls.unary(self._calls.connection.sandboxes.StartProcess, request)).process

    async def list_processes(self, sandbox_id: str) -> tuple[sandbox_pb2.Process, ...]:
        """Lists the started processes, the most recently ended ones included."""
        request = sandbox_pb2.ListProcessesRequest(sandbox_id=sandbox_id)
        answer = await self._calls.unary(self._calls.connection.sandboxes.ListProcesses, request)
        return tuple(answer.processes)

    async def write_process(self, sandbox_id: str, pid: int, data: bytes = b"", *, eof: bool = False) -> None:
        """Writes to the input of a process. Raises NotFound."""
        request = sandbox_pb2.WriteProcessRequest(sandbox_id=sandbox_id, pid=pid, data=data, eof=eof)
        await self._calls.unary(self._calls.connection.sandboxes.WriteProcess, request)

    async def signal_process(self, sandbox_id: str, pid: int, signal: int) -> None:
        """Sends a signal, by its Linux number, to a process and its descendants. Raises NotFound."""
        request = sandbox_pb2.SignalProcessRequest(sandbox_id=sandbox_id, pid=pid, signal=signal)
        await self._calls.unary(self._calls.connection.sandboxes.SignalProcess, request)

    async def watch_process(
        self, sandbox_id: str, pid: int, *, offset: int = 0
    ) -> AsyncGenerator[sandbox_pb2.WatchProcessResponse, None]:
        """Yields the output of a process from a byte offset to its end. Raises NotFound.

        Leaving the iteration does not end the process.
        """
        request = sandbox_pb2.WatchProcessRequest(sandbox_id=sandbox_id, pid=pid, offset=offset)
        stub = self._calls.connection.sandboxes
        async for item in self._read(stub.WatchProcess(request, metadata=self._calls.metadata)):
            yield item

    async def list_tools(self, sandbox_id: str) -> tuple[sandbox_pb2.SandboxTool, ...]:
        """Lists the sandbox's tools by name."""
        request = sandbox_pb2.ListToolsRequest(sandbox_id=sandbox_id)
        answer = await self._calls.unary(self._calls.connection.sandboxes.ListTools, request)
        return tuple(answer.tools)

    async def call_tool(self, sandbox_id: str, name: str, arguments: Json = None) -> str:
        """Calls a tool; returns an MCP tool result as JSON text. Raises NotFound.

        The call may last as long as the sandbox allows, regardless of the client's timeout.
        """
        request = sandbox_pb2.CallToolRequest(
            sandbox_id=sandbox_id, name=name, arguments_json=json_text(arguments)
        )
        with typed_errors():
            answer = await self._calls.connection.sandboxes.CallTool(request, metadata=self._calls.metadata)
        return answer.result_json

    async def _read(self, call: "grpc.aio.UnaryStreamCall[Any, T]") -> AsyncGenerator[T, None]:
        with typed_errors():
            try:
                while (item := await call.read()) is not grpc.aio.EOF:
                    yield item  # type: ignore[misc]  # a T, as it is not the end
            finally:
                call.cancel()
