"""Converts sandboxes from and to the JSON of this gateway."""

import base64
import codecs
from collections.abc import Iterable
from typing import Any

from portico.client.convert import to_duration
from portico.gateways.sse.json_routes import seconds
from portico.gateways.sse.sandbox.sandbox_schemas import SpecModel
from portico.v1 import sandbox_pb2 as pb

_TEXT = ("text/", "application/json", "application/javascript", "image/svg+xml", "application/vnd")


_IDLE_ACTIONS = {
    "": pb.SANDBOX_IDLE_ACTION_UNSPECIFIED,
    "end": pb.SANDBOX_IDLE_ACTION_END,
    "pause": pb.SANDBOX_IDLE_ACTION_PAUSE,
}


def spec_of(given: SpecModel) -> pb.SandboxSpec:
    """Converts the specification of a sandbox."""
    limits = given.limits
    return pb.SandboxSpec(
        type=given.type,
        backend=given.backend,
        limits=pb.SandboxLimits(
            memory_bytes=limits.memory_bytes,
            cpus=limits.cpus,
            processes=limits.processes,
            disk_bytes=limits.disk_bytes,
            inodes=limits.inodes,
            output_bytes=limits.output_bytes,
            call_time=None if limits.call_seconds is None else to_duration(limits.call_seconds),
        ),
        env=given.env,
        mounts=[pb.SandboxMount(**mount.model_dump()) for mount in given.mounts],
        allow_hosts=given.allow_hosts,
        preload=given.preload,
        ttl=None if given.ttl_seconds is None else to_duration(given.ttl_seconds),
        idle_timeout=None if given.idle_seconds is None else to_duration(given.idle_seconds),
        idle_action=_IDLE_ACTIONS[given.idle_action],
        metadata=given.metadata,
    )


def sandbox_json(sandbox: pb.Sandbox) -> dict[str, Any]:
    spec, limits = sandbox.spec, sandbox.spec.limits
    names = ("memory_bytes", "cpus", "processes", "disk_bytes", "inodes", "output_bytes")
    return {
        "sandbox_id": sandbox.sandbox_id,
        "user_id": sandbox.user_id,
        "session_id": sandbox.session_id,
        "state": "paused" if sandbox.state == pb.SANDBOX_STATE_PAUSED else "running",
        "spec": {
            "type": spec.type,
            "backend": spec.backend,
            "limits": {
                **{name: getattr(limits, name) for name in names},
                "call_seconds": _seconds(limits.call_time),
            },
            "env": dict(spec.env),
            "mounts": [
                {"source": mount.source, "target": mount.target, "writable": mount.writable}
                for mount in spec.mounts
            ],
            "allow_hosts": list(spec.allow_hosts),
            "preload": list(spec.preload),
            "ttl_seconds": _seconds(spec.ttl) if spec.HasField("ttl") else None,
            "idle_seconds": _seconds(spec.idle_timeout) if spec.HasField("idle_timeout") else None,
            "idle_action": "pause" if spec.idle_action == pb.SANDBOX_IDLE_ACTION_PAUSE else "end",
            "metadata": dict(spec.metadata),
        },
        "tier": sandbox.tier,
        "created_at": seconds(sandbox.created_time),
        "used_at": seconds(sandbox.used_time),
    }


def snapshot_json(snapshot: pb.SandboxSnapshot) -> dict[str, Any]:
    return {
        "snapshot_id": snapshot.snapshot_id,
        "sandbox_id": snapshot.sandbox_id,
        "user_id": snapshot.user_id,
        "session_id": snapshot.session_id,
        "created_at": seconds(snapshot.created_time),
        "size_bytes": snapshot.size_bytes,
        "kernel": snapshot.kernel,
    }


def _seconds(duration: Any) -> float:
    return float(duration.seconds + duration.nanos / 1e9)


def metrics_json(metrics: pb.GetSandboxMetricsResponse) -> dict[str, Any]:
    return {
        "memory_bytes": metrics.memory_bytes if metrics.HasField("memory_bytes") else None,
        "cpu_seconds": _seconds(metrics.cpu_time) if metrics.HasField("cpu_time") else None,
        "processes": metrics.processes,
        "disk_bytes": metrics.disk_bytes,
        "inodes": metrics.inodes,
    }


def process_json(process: pb.Process) -> dict[str, Any]:
    return {
        "pid": process.pid,
        "arguments": list(process.arguments),
        "exit_code": process.exit_code if process.HasField("exit_code") else None,
        "started_at": seconds(process.started_time),
        "output_start": process.output_start,
        "output_end": process.output_end,
    }


def file_json(info: pb.FileInfo) -> dict[str, Any]:
    return {
        "path": info.path,
        "type": info.type,
        "size_bytes": info.size_bytes,
        "mode": info.mode,
        "modified_at": seconds(info.modified_time),
        "version": info.version or None,
    }


def rich_json(rich: pb.RichOutput) -> dict[str, Any]:
    return {
        "data": {
            kind: content.decode(errors="replace")
            if kind.startswith(_TEXT)
            else base64.b64encode(content).decode()
            for kind, content in rich.data.items()
        },
        "is_result": rich.is_result,
    }


def failure_json(failure: pb.SandboxFailure) -> dict[str, Any]:
    return {
        "reason": failure.reason,
        "message": failure.message,
        "limit": failure.limit,
        "kernel_lost": failure.kernel_lost,
        "exit_code": failure.exit_code if failure.HasField("exit_code") else None,
        "signal": failure.signal,
    }


def end_json(end: pb.CellEnd | pb.ProcessEnd) -> dict[str, Any]:
    told: dict[str, Any] = {"failure": failure_json(end.failure) if end.HasField("failure") else None}
    if isinstance(end, pb.ProcessEnd):
        told["exit_code"] = end.exit_code if end.HasField("exit_code") else None
        return told
    error = end.error
    told["execution_count"] = end.execution_count
    told["error"] = None
    if end.HasField("error"):
        told["error"] = {
            "name": error.name,
            "message": error.message,
            "traceback": error.traceback,
            "limit": error.limit,
        }
    return told


class SandboxEventEncoder:
    """Converts the events of one call, in order, to names and JSON. Text is split between characters only."""

    def __init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {"stdout": decoder("replace"), "stderr": decoder("replace")}

    def told(self, event: Any) -> Iterable[tuple[str, dict[str, Any]]]:
        """Yields the names and JSON of an event; none if it only completes half a character."""
        kind = event.WhichOneof("event")
        if kind in self._decoders:
            if text := self._decoders[kind].decode(getattr(event, kind)):
                yield kind, {"text": text}
        elif kind == "rich":
            yield kind, rich_json(event.rich)
        elif kind == "lost_bytes":
            yield "lost", {"bytes": event.lost_bytes}
        elif kind == "end":
            for name, decoder in self._decoders.items():
                if text := decoder.decode(b"", final=True):
                    yield name, {"text": text}
            told = end_json(event.end)
            if isinstance(event, pb.WatchProcessResponse):
                told["offset"] = event.end.offset
            yield kind, told


class CollectedOutput:
    """Collects all events of a call into one object."""

    def __init__(self, *, rich: bool) -> None:
        self._events = SandboxEventEncoder()
        self._said: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._rich: list[dict[str, Any]] | None = [] if rich else None
        self._end: dict[str, Any] = {}

    def take(self, event: Any) -> None:
        """Processes an event."""
        for name, told in self._events.told(event):
            if name in self._said:
                self._said[name].append(told["text"])
            elif name == "rich" and self._rich is not None:
                self._rich.append(told)
            elif name == "end":
                self._end = told

    def json(self) -> dict[str, Any]:
        """Returns the collected object."""
        told: dict[str, Any] = {name: "".join(parts) for name, parts in self._said.items()}
        if self._rich is not None:
            told["rich"] = self._rich
        return {**told, **self._end}
