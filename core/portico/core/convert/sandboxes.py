"""Converts specs, states, events and results of sandboxes."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from google.protobuf.duration_pb2 import Duration

from portico.core.convert.timestamps import timestamp
from portico.core.errors import InvalidArgument
from portico.model.identity import user_of
from portico.sandbox import errors
from portico.sandbox.events import (
    CellEnd,
    CellEvent,
    CellInput,
    Entry,
    Found,
    Lost,
    Metrics,
    ProcessEnd,
    ProcessEvent,
    ProcessInfo,
    Rich,
    Stderr,
    Stdout,
)
from portico.sandbox.file_names import to_text
from portico.sandbox.manager.registry import ManagedSandbox
from portico.sandbox.manager.snapshots import StoredSnapshot
from portico.sandbox.spec import SECONDS, Limits, Mount, NetworkPolicy, Spec
from portico.v1 import sandbox_pb2 as pb

_SIZES = ("memory_bytes", "processes", "disk_bytes", "inodes", "output_bytes")
_REASONS = {"TIMEOUT": "SANDBOX_TIMEOUT", "CANCELLED": "CALL_CANCELLED"}
_IDLE_ACTIONS = {"end": pb.SANDBOX_IDLE_ACTION_END, "pause": pb.SANDBOX_IDLE_ACTION_PAUSE}
METADATA_BYTES = 16 * 1024


def duration(seconds: float) -> Duration:
    value = Duration()
    value.FromNanoseconds(round(seconds * 1e9))
    return value


def seconds_of(value: Duration, field: str) -> float:
    """A duration in seconds. Raises InvalidArgument if it is not positive, too long, or malformed."""
    seconds = value.seconds + value.nanos / 1e9
    if not 0 <= value.nanos < 1_000_000_000 or not 0 < seconds <= SECONDS[1]:
        raise InvalidArgument(field, f"must be more than 0 and at most {SECONDS[1]:.0f} seconds")
    return seconds


def spec_from_proto(given: pb.SandboxSpec, defaults: Limits) -> Spec:
    """Converts a requested spec, before the operator's policy is applied. Raises InvalidArgument."""
    if sum(len(key) + len(value) for key, value in given.metadata.items()) > METADATA_BYTES:
        raise InvalidArgument("spec.metadata", f"more than {METADATA_BYTES} bytes")
    idle = seconds_of(given.idle_timeout, "spec.idle_timeout") if given.HasField("idle_timeout") else None
    return Spec(
        type=given.type or "base",
        limits=_limits(given.limits, defaults) if given.HasField("limits") else defaults,
        env=dict(given.env),
        mounts=tuple(Mount(mount.source, mount.target, mount.writable) for mount in given.mounts),
        network=NetworkPolicy(tuple(given.allow_hosts)),
        preload=tuple(given.preload),
        ttl_seconds=seconds_of(given.ttl, "spec.ttl") if given.HasField("ttl") else None,
        idle_seconds=idle,
        idle_action=_idle_action(given.idle_action),
        metadata=dict(given.metadata),
    )


def _idle_action(given: pb.SandboxIdleAction.ValueType) -> str | None:
    """The action's name; None if unset. Raises InvalidArgument for an unknown value."""
    if given == pb.SANDBOX_IDLE_ACTION_UNSPECIFIED:
        return None
    for action, value in _IDLE_ACTIONS.items():
        if given == value:
            return action
    raise InvalidArgument("spec.idle_action", f"unknown value {given}")


def _limits(given: pb.SandboxLimits, defaults: Limits) -> Limits:
    sizes = {name: getattr(given, name) or getattr(defaults, name) for name in _SIZES}
    call = defaults.call_seconds
    if given.HasField("call_time"):
        call = seconds_of(given.call_time, "spec.limits.call_time")
    return Limits(cpus=given.cpus or defaults.cpus, call_seconds=call, **sizes)


def sandbox_to_proto(held: ManagedSandbox, tier: str) -> pb.Sandbox:
    box = held.handle
    state = pb.SANDBOX_STATE_PAUSED if box.paused else pb.SANDBOX_STATE_RUNNING
    return pb.Sandbox(
        sandbox_id=box.id,
        user_id=user_of(held.user_id),
        session_id=held.session_id,
        spec=_spec(box.spec, held.backend),
        state=state,
        created_time=timestamp(held.created),
        used_time=timestamp(max(held.created, time.time() - (time.monotonic() - box.last_used))),
        tier=tier,
    )


def _spec(spec: Spec, backend: str) -> pb.SandboxSpec:
    sizes = {name: getattr(spec.limits, name) for name in _SIZES}
    return pb.SandboxSpec(
        type=spec.type,
        backend=backend,
        limits=pb.SandboxLimits(cpus=spec.limits.cpus, call_time=duration(spec.limits.call_seconds), **sizes),
        env=dict.fromkeys(spec.env, ""),  # a value may be a secret
        mounts=[
            pb.SandboxMount(source=mount.source, target=mount.target, writable=mount.writable)
            for mount in spec.mounts
        ],
        allow_hosts=spec.network.allow_hosts,
        preload=spec.preload,
        ttl=None if spec.ttl_seconds is None else duration(spec.ttl_seconds),
        idle_timeout=None if spec.idle_seconds is None else duration(spec.idle_seconds),
        idle_action=_IDLE_ACTIONS[spec.idle_action or "end"],
        metadata=spec.metadata,
    )


def metrics_to_proto(metrics: Metrics) -> pb.GetSandboxMetricsResponse:
    return pb.GetSandboxMetricsResponse(
        memory_bytes=metrics.memory_bytes,
        cpu_time=None if metrics.cpu_seconds is None else duration(metrics.cpu_seconds),
        processes=metrics.processes,
        disk_bytes=metrics.disk_bytes,
        inodes=metrics.inodes,
    )


def snapshot_to_proto(snapshot: StoredSnapshot) -> pb.SandboxSnapshot:
    return pb.SandboxSnapshot(
        snapshot_id=snapshot.id,
        sandbox_id=snapshot.sandbox_id,
        user_id=user_of(snapshot.user_id),
        session_id=snapshot.session_id,
        created_time=timestamp(snapshot.created),
        size_bytes=snapshot.size_bytes,
        kernel=snapshot.kernel,
    )


def cell_events(events: Sequence[CellEvent]) -> pb.RunCellResponse:
    """Encodes one or more events as one message."""
    response = _cell_event(events[0])
    response.more.extend(map(_cell_event, events[1:]))
    return response


def _cell_event(event: CellEvent) -> pb.RunCellResponse:
    if isinstance(event, Stdout):
        return pb.RunCellResponse(stdout=event.data)
    if isinstance(event, Stderr):
        return pb.RunCellResponse(stderr=event.data)
    if isinstance(event, CellInput):
        return pb.RunCellResponse(input=pb.CellInput(prompt=event.prompt, password=event.password))
    if isinstance(event, Rich):
        return pb.RunCellResponse(rich=pb.RichOutput(data=event.data, is_result=event.is_result))
    return pb.RunCellResponse(end=_cell_end(event))


def _cell_end(end: CellEnd) -> pb.CellEnd:
    told = pb.CellEnd(execution_count=end.execution_count)
    if end.error is not None:
        told.error.name = end.error.name
        told.error.message = _text(end.error.message)
        told.error.traceback = _text(end.error.traceback)
        told.error.limit = end.error.limit or ""
    if end.failure is not None:
        told.failure.CopyFrom(failure_to_proto(end.failure))
    return told


def _text(value: str) -> str:
    """Makes text of untrusted code encodable as UTF-8."""
    return value.encode(errors="replace").decode()


def failure_to_proto(failure: errors.SandboxError) -> pb.SandboxFailure:
    return pb.SandboxFailure(
        reason=_REASONS.get(failure.reason, failure.reason),
        message=_text(failure.message),
        limit=failure.limit if isinstance(failure, errors.LimitExceeded) else "",
        kernel_lost=isinstance(failure, errors.KernelDied | errors.SandboxGone)
        or bool(getattr(failure, "kernel_lost", False)),
        exit_code=failure.exit_code if isinstance(failure, errors.KernelDied) else None,
        signal=failure.signal if isinstance(failure, errors.KernelDied) else "",
    )


def process_end(end: ProcessEnd) -> pb.ProcessEnd:
    failure = None if end.failure is None else failure_to_proto(end.failure)
    return pb.ProcessEnd(exit_code=end.exit_code, failure=failure, offset=end.offset)


def command_event(event: ProcessEvent) -> pb.RunCommandResponse | None:
    """Encodes an event; None for kinds that RunCommand does not report."""
    if isinstance(event, Stdout):
        return pb.RunCommandResponse(stdout=event.data)
    if isinstance(event, Stderr):
        return pb.RunCommandResponse(stderr=event.data)
    return pb.RunCommandResponse(end=process_end(event)) if isinstance(event, ProcessEnd) else None


def process_event(event: ProcessEvent) -> pb.WatchProcessResponse:
    if isinstance(event, Stdout):
        return pb.WatchProcessResponse(stdout=event.data)
    if isinstance(event, Stderr):
        return pb.WatchProcessResponse(stderr=event.data)
    if isinstance(event, Lost):
        return pb.WatchProcessResponse(lost_bytes=event.size)
    return pb.WatchProcessResponse(end=process_end(event))


def process_to_proto(info: ProcessInfo) -> pb.Process:
    return pb.Process(
        pid=info.pid,
        arguments=[_text(word) for word in info.command],
        exit_code=info.exit_code,
        started_time=timestamp(info.started),
        output_start=info.output_start,
        output_end=info.output_end,
    )


def command_words(command: pb.Command, field: str = "command") -> str | list[str]:
    """The command to run; a single argument is a str, for a shell. Raises InvalidArgument without one."""
    words = list(command.arguments)
    if not words or not words[0]:
        raise InvalidArgument(f"{field}.arguments", "at least one is required")
    if any("\0" in word for word in words):
        raise InvalidArgument(f"{field}.arguments", "must not have a NUL character")
    return words if len(words) > 1 else words[0]


def file_to_proto(entry: Entry) -> pb.FileInfo:
    return pb.FileInfo(
        path=to_text(entry.path),
        type=entry.type,
        size_bytes=entry.size,
        mode=entry.mode,
        modified_time=timestamp(entry.modified),
        version=entry.version,
    )


def found_to_proto(found: Found) -> pb.FoundFile:
    return pb.FoundFile(path=to_text(found.path), line=found.line or 0)


def tools_to_proto(listed: Mapping[str, Mapping[str, Any]]) -> list[pb.SandboxTool]:
    tools = []
    for group, members in listed.items():
        for name, told in members.items():
            function = told["json_schema"]["function"]
            schema = orjson.dumps(function["parameters"]).decode()
            description = function["description"]
            tools.append(pb.SandboxTool(name=name, description=description, schema_json=schema, group=group))
    return sorted(tools, key=lambda tool: tool.name)
