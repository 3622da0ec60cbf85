"""Methods of SandboxService that run programs and tools."""

import signal
from collections.abc import AsyncIterator
from contextlib import aclosing

import orjson
from grpc.aio import ServicerContext

from portico.core.convert.messages import load_object
from portico.core.convert.sandboxes import (
    command_event,
    command_words,
    process_event,
    process_to_proto,
    seconds_of,
    tools_to_proto,
)
from portico.core.errors import InvalidArgument
from portico.core.sandboxes.sandbox_errors import ToolNotFound, translate_sandbox_errors
from portico.core.services.sandbox.sandbox_methods import SandboxMethods
from portico.sandbox import tools
from portico.sandbox.file_names import from_text
from portico.v1 import sandbox_pb2 as pb


class SandboxCode(SandboxMethods):
    """Runs programs and tools."""

    async def RunCommand(
        self, request: pb.RunCommandRequest, context: ServicerContext
    ) -> AsyncIterator[pb.RunCommandResponse]:
        box = self._box(request.sandbox_id)
        timeout = seconds_of(request.timeout, "timeout") if request.HasField("timeout") else None
        with translate_sandbox_errors(sandbox_id=box.id, path=request.command.cwd):
            stream = box.stream_shell(
                command_words(request.command),
                cwd=from_text(request.command.cwd),
                env=request.command.env,
                stdin=request.stdin,
                timeout=timeout,
            )
            async with aclosing(stream) as events:
                async for event in events:
                    if (response := command_event(event)) is not None:
                        yield response

    async def StartProcess(
        self, request: pb.StartProcessRequest, context: ServicerContext
    ) -> pb.StartProcessResponse:
        box = self._box(request.sandbox_id)
        words = command_words(request.command)
        with translate_sandbox_errors(sandbox_id=box.id, path=request.command.cwd):
            info = await box.processes.start(
                words, cwd=from_text(request.command.cwd), env=request.command.env, stdin=request.stdin
            )
        return pb.StartProcessResponse(process=process_to_proto(info))

    async def ListProcesses(
        self, request: pb.ListProcessesRequest, context: ServicerContext
    ) -> pb.ListProcessesResponse:
        box = self._box(request.sandbox_id)
        with translate_sandbox_errors(sandbox_id=box.id):
            processes = await box.processes.list_all()
        return pb.ListProcessesResponse(processes=[process_to_proto(info) for info in processes])

    async def WriteProcess(
        self, request: pb.WriteProcessRequest, context: ServicerContext
    ) -> pb.WriteProcessResponse:
        box = self._box(request.sandbox_id)
        with translate_sandbox_errors(sandbox_id=box.id, pid=request.pid):
            await box.processes.write(request.pid, request.data, request.eof)
        return pb.WriteProcessResponse()

    async def SignalProcess(
        self, request: pb.SignalProcessRequest, context: ServicerContext
    ) -> pb.SignalProcessResponse:
        box = self._box(request.sandbox_id)
        if request.signal not in set(signal.valid_signals()):
            raise InvalidArgument("signal", f"there is no signal {request.signal}")
        with translate_sandbox_errors(sandbox_id=box.id, pid=request.pid):
            await box.processes.signal(request.pid, request.signal)
        return pb.SignalProcessResponse()

    async def WatchProcess(
        self, request: pb.WatchProcessRequest, context: ServicerContext
    ) -> AsyncIterator[pb.WatchProcessResponse]:
        box = self._box(request.sandbox_id)
        if request.offset < 0:
            raise InvalidArgument("offset", "must not be negative")
        with translate_sandbox_errors(sandbox_id=box.id, pid=request.pid):
            attached = box.processes.attach(request.pid, request.offset)
            async with aclosing(aiter(attached)) as events:
                async for event in events:
                    yield process_event(event)

    async def ListTools(self, request: pb.ListToolsRequest, context: ServicerContext) -> pb.ListToolsResponse:
        listed = tools.list_tools(self._box(request.sandbox_id).spec.type)
        return pb.ListToolsResponse(tools=tools_to_proto(listed))

    async def CallTool(self, request: pb.CallToolRequest, context: ServicerContext) -> pb.CallToolResponse:
        box = self._box(request.sandbox_id)
        arguments = load_object(request.arguments_json, "arguments_json")
        if not any(request.name in group for group in tools.list_tools(box.spec.type).values()):
            raise ToolNotFound(f"the sandbox has no tool {request.name!r}", name=request.name)
        with translate_sandbox_errors(sandbox_id=box.id):
            result = await tools.call_tool(box, request.name, dict(arguments))
        return pb.CallToolResponse(result_json=_json(result))


def _json(result: object) -> str:
    try:
        return orjson.dumps(result).decode()
    except orjson.JSONEncodeError:
        # Hostile code may produce lone surrogates, which orjson refuses.
        import json

        return json.dumps(result)
