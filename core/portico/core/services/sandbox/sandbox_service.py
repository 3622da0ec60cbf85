"""SandboxService: creates and manages sandboxes; separate modules have its methods for code, files, ports."""

from grpc.aio import ServicerContext

from portico.core.convert.requests import check_id
from portico.core.convert.sandboxes import metrics_to_proto, seconds_of, snapshot_to_proto, spec_from_proto
from portico.core.convert.timestamps import timestamp
from portico.core.errors import InvalidArgument
from portico.core.sandboxes.sandbox_errors import translate_sandbox_errors
from portico.core.services.rpc.current_principal import resolve_list_owner
from portico.core.services.rpc.page_tokens import decode_token, encode_token, page_size
from portico.core.services.sandbox.cell_methods import SandboxCells
from portico.core.services.sandbox.code_methods import SandboxCode
from portico.core.services.sandbox.file_methods import SandboxFiles
from portico.core.services.sandbox.sandbox_methods import check_port
from portico.core.services.sandbox.stream_methods import SandboxStreams
from portico.model.ids import new_id
from portico.v1 import sandbox_pb2 as pb

ACCESS_SECONDS = 3600.0
ACCESS_SECONDS_MAX = 86_400.0


class SandboxService(SandboxCells, SandboxCode, SandboxFiles, SandboxStreams):
    """Serves the sandboxes of one core."""

    async def CreateSandbox(
        self, request: pb.CreateSandboxRequest, context: ServicerContext
    ) -> pb.CreateSandboxResponse:
        return pb.CreateSandboxResponse(sandbox=self._told(await self._made(request)))

    async def GetSandbox(
        self, request: pb.GetSandboxRequest, context: ServicerContext
    ) -> pb.GetSandboxResponse:
        return pb.GetSandboxResponse(sandbox=self._told(self._held(request.sandbox_id)))

    async def ListSandboxes(
        self, request: pb.ListSandboxesRequest, context: ServicerContext
    ) -> pb.ListSandboxesResponse:
        user_id = resolve_list_owner(request.user_id)
        session_id = check_id(request.session_id, "session_id", required=False)
        size = page_size(request.page_size)
        held = self._sandboxes.listed(user_id, session_id)
        place = decode_token(request.page_token, float, str)
        if place is not None:
            before = (float(str(place[0])), str(place[1]))
            held = [one for one in held if (one.created, one.handle.id) < before]
        token = encode_token(held[size - 1].created, held[size - 1].handle.id) if len(held) > size else ""
        return pb.ListSandboxesResponse(
            sandboxes=[self._told(one) for one in held[:size]], next_page_token=token
        )

    async def TouchSandbox(
        self, request: pb.TouchSandboxRequest, context: ServicerContext
    ) -> pb.TouchSandboxResponse:
        held = self._held(request.sandbox_id)
        self._sandboxes.touch(held)
        return pb.TouchSandboxResponse(sandbox=self._told(held))

    async def DeleteSandbox(
        self, request: pb.DeleteSandboxRequest, context: ServicerContext
    ) -> pb.DeleteSandboxResponse:
        await self._sandboxes.delete(self._held(request.sandbox_id).handle.id)
        return pb.DeleteSandboxResponse()

    async def PauseSandbox(
        self, request: pb.PauseSandboxRequest, context: ServicerContext
    ) -> pb.PauseSandboxResponse:
        with translate_sandbox_errors(sandbox_id=request.sandbox_id):
            await self._held(request.sandbox_id).handle.pause()
        return pb.PauseSandboxResponse()

    async def ResumeSandbox(
        self, request: pb.ResumeSandboxRequest, context: ServicerContext
    ) -> pb.ResumeSandboxResponse:
        with translate_sandbox_errors(sandbox_id=request.sandbox_id):
            await self._held(request.sandbox_id).handle.resume()
        return pb.ResumeSandboxResponse()

    async def GetSandboxMetrics(
        self, request: pb.GetSandboxMetricsRequest, context: ServicerContext
    ) -> pb.GetSandboxMetricsResponse:
        with translate_sandbox_errors(sandbox_id=request.sandbox_id):
            return metrics_to_proto(await self._held(request.sandbox_id).handle.metrics())

    async def CreatePortAccess(
        self, request: pb.CreatePortAccessRequest, context: ServicerContext
    ) -> pb.CreatePortAccessResponse:
        held = self._held(request.sandbox_id)
        lifetime = ACCESS_SECONDS
        if request.HasField("lifetime"):
            lifetime = seconds_of(request.lifetime, "lifetime")
            if lifetime > ACCESS_SECONDS_MAX:
                raise InvalidArgument("lifetime", f"at most {ACCESS_SECONDS_MAX:.0f} s")
        token, until = self._sandboxes.ports.issue(held.handle.id, check_port(request.port, "port"), lifetime)
        return pb.CreatePortAccessResponse(access_token=token, expire_time=timestamp(until))

    async def CreateCheckpoint(
        self, request: pb.CreateCheckpointRequest, context: ServicerContext
    ) -> pb.CreateCheckpointResponse:
        name = check_id(request.name, "name")
        with translate_sandbox_errors(sandbox_id=request.sandbox_id):
            await self._held(request.sandbox_id).handle.checkpoint(name)
        return pb.CreateCheckpointResponse()

    async def RollBack(self, request: pb.RollBackRequest, context: ServicerContext) -> pb.RollBackResponse:
        held = self._held(request.sandbox_id)
        if request.WhichOneof("target") == "snapshot_id":
            snapshot_id = self._snapshot(request.snapshot_id)
            return pb.RollBackResponse(kernel_restored=await self._sandboxes.roll_back(held, snapshot_id))
        name = check_id(request.name, "target")
        with translate_sandbox_errors(sandbox_id=request.sandbox_id, name=name):
            await held.handle.rollback(name)
        return pb.RollBackResponse(kernel_restored=True)

    async def CreateSnapshot(
        self, request: pb.CreateSnapshotRequest, context: ServicerContext
    ) -> pb.CreateSnapshotResponse:
        taken = await self._sandboxes.take_snapshot(self._held(request.sandbox_id))
        return pb.CreateSnapshotResponse(
            snapshot_id=taken.id, size_bytes=taken.size_bytes, kernel=taken.kernel
        )

    async def ListSnapshots(
        self, request: pb.ListSnapshotsRequest, context: ServicerContext
    ) -> pb.ListSnapshotsResponse:
        user_id = resolve_list_owner(request.user_id)
        session_id = check_id(request.session_id, "session_id", required=False)
        sandbox_id = check_id(request.sandbox_id, "sandbox_id", required=False)
        size = page_size(request.page_size)
        taken = self._sandboxes.snapshots(user_id, session_id, sandbox_id)
        place = decode_token(request.page_token, float, str)
        if place is not None:
            before = (float(str(place[0])), str(place[1]))
            taken = [one for one in taken if (one.created, one.id) < before]
        token = encode_token(taken[size - 1].created, taken[size - 1].id) if len(taken) > size else ""
        return pb.ListSnapshotsResponse(
            snapshots=[snapshot_to_proto(one) for one in taken[:size]], next_page_token=token
        )

    async def DeleteSnapshot(
        self, request: pb.DeleteSnapshotRequest, context: ServicerContext
    ) -> pb.DeleteSnapshotResponse:
        self._sandboxes.delete_snapshot(self._snapshot(request.snapshot_id))
        return pb.DeleteSnapshotResponse()

    async def ForkSandbox(
        self, request: pb.ForkSandboxRequest, context: ServicerContext
    ) -> pb.ForkSandboxResponse:
        session_id = check_id(request.session_id or new_id("session_"), "session_id")
        spec = None
        if request.HasField("spec"):
            spec = spec_from_proto(request.spec, self._sandboxes.policy.defaults())
        backend = request.spec.backend
        if request.WhichOneof("source") == "snapshot_id":
            snapshot_id = self._snapshot(request.snapshot_id)
            held = await self._sandboxes.fork(snapshot_id, session_id, spec, backend)
        else:
            source = self._held(check_id(request.sandbox_id, "source"))
            held = await self._sandboxes.fork_live(source, session_id, spec, backend)
        return pb.ForkSandboxResponse(sandbox=self._told(held))
