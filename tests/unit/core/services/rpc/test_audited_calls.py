"""Every call of the contract writes an audit line with its caller and the caller's address."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from support.certificates import Authority
from support.identity import ADMIN_KEY, Callers, guarded_core
from support.serving import running_core

from portico.agent import AgentApp
from portico.client import Client, Multiplexer, PermissionDenied, Unauthenticated, query_request
from portico.client.tls import channel_credentials
from portico.core.server.core_server import FILES
from portico.core.services.rpc import audit_log
from portico.core.services.rpc.client_address import CLIENT_ADDRESS
from portico.v1 import query_pb2

ELSEWHERE = {CLIENT_ADDRESS: "203.0.113.9"}
METHODS = [
    method for file in FILES for service in file.services_by_name.values() for method in service.methods
]
MULTIPLEX = "Multiplex"  # the streams that it carries have separate lines
NEED_NONE = ("GetAgent", MULTIPLEX, "ConnectPort")  # methods that need no credential
REFUSED = ["Bearer pk_00000000000000000000_wrong", "Bearer a.b.c", "Basic x", ""]


def echo() -> AgentApp:
    app = AgentApp("echo")

    @app.query
    async def query(msgs: list[object]) -> AsyncIterator[str]:
        yield "hello"

    return app


class Lines(list[bytes]):
    """Audit lines."""

    @property
    def parsed(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self]


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Callers]:
    async with guarded_core([echo()], tmp_path, listen=["127.0.0.1:0"]) as callers:
        yield callers


async def call(channel: grpc.aio.Channel, method: MethodDescriptor, metadata: list[tuple[str, str]]) -> str:
    """The status of an empty request."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    nothing: Any = iter(()) if method.client_streaming else b""
    kinds = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }
    calling: Any = kinds[method.client_streaming, method.server_streaming](path)
    answer = calling(nothing, metadata=metadata, timeout=30)
    try:
        if method.server_streaming:
            await answer.read()  # some streams never end
            answer.cancel()
        else:
            await answer
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def test_every_call_leaves_a_line(core: Callers) -> None:
    lines = Lines()
    metadata = [("authorization", f"Bearer {ADMIN_KEY}")]
    with audit_log.write_audit_to(lines.append):
        async with grpc.aio.insecure_channel(core.target) as channel:
            outcomes = {method.name: await call(channel, method, metadata) for method in METHODS}
    told = Counter(line["method"] for line in lines.parsed)
    assert told == Counter(method.name for method in METHODS if method.name != MULTIPLEX)
    for line in lines.parsed:
        assert line["outcome"] == outcomes[line["method"]], line
        assert line["caller"] == {"tenant": "", "user": "operator"}
        assert (line["address"], line.get("via")) == ("127.0.0.1", None)


@pytest.mark.parametrize(
    "credential", ["Bearer pk_00000000000000000000_wrong", "Bearer a.b.c", "Basic x", ""]
)
async def test_every_call_that_is_refused_is_counted(core: Callers, credential: str) -> None:
    lines = Lines()
    metadata = [("authorization", credential)] if credential else []
    methods = [
        method
        for method in METHODS
        if credential or method.name not in ("GetAgent", MULTIPLEX, "ConnectPort")
    ]
    with audit_log.write_audit_to(lines.append):
        async with grpc.aio.insecure_channel(core.target) as channel:
            for method in methods:
                assert await call(channel, method, metadata) == "UNAUTHENTICATED"
    first, repeated = lines.parsed
    told = Counter({first["method"]: 1}) + Counter(repeated["methods"])
    assert told == Counter(method.name for method in methods)
    assert repeated["count"] == len(methods) - 1
    for line in (first, repeated):
        assert (line["outcome"], line["caller"], line["address"]) == ("UNAUTHENTICATED", None, "127.0.0.1")


async def test_who_is_refused_what_it_asks_for_is_named(core: Callers) -> None:
    reader = await core.client("ada", "acme", "read")
    lines = Lines()
    with audit_log.write_audit_to(lines.append):
        with pytest.raises(PermissionDenied):
            await reader.sessions.create(session_id="s")
        async with Multiplexer(reader) as streams:
            with pytest.raises(PermissionDenied):
                async for _ in streams.open_query(query_request("hi"), metadata=ELSEWHERE):
                    pass
    for line, method in zip(lines.parsed, ("CreateSession", "Query"), strict=True):
        assert (line["method"], line["outcome"]) == (method, "PERMISSION_DENIED")
        assert line["caller"] == {"tenant": "acme", "user": "ada"}
        assert (line["address"], line.get("via")) == ("127.0.0.1", None)


async def test_streams_of_a_gateway_have_their_own_callers_and_addresses(tmp_path: Path) -> None:
    async with (
        guarded_core([echo()], tmp_path) as core,
        core.nobody() as gateway,
        Multiplexer(gateway) as streams,
    ):
        assert core.target.startswith("unix:")
        bearer = {"authorization": f"Bearer {await core.key('ada', 'acme')}", **ELSEWHERE}
        lines = Lines()
        with audit_log.write_audit_to(lines.append):
            run_id = ""
            async for frames in streams.open_query(query_request("hi"), metadata=bearer):
                run_id = run_id or frames[0].events[0].response.id
            watch = query_pb2.WatchRunRequest(run_id=run_id)
            async for _ in streams.open_watch(watch, metadata=bearer):
                pass
            for _ in range(3):
                with pytest.raises(Unauthenticated):
                    async for _ in streams.open_watch(
                        watch, metadata={**ELSEWHERE, "authorization": "Bearer pk_x"}
                    ):
                        pass
            await gateway.with_options(metadata=bearer).runs.get(run_id)
        told = [(line.get("method"), line["outcome"], line["caller"]) for line in lines.parsed]
        ada = {"tenant": "acme", "user": "ada"}
        assert told == [
            ("Query", "OK", ada),
            ("WatchRun", "OK", ada),
            ("WatchRun", "UNAUTHENTICATED", None),
            ("GetRun", "OK", ada),
            (None, "UNAUTHENTICATED", None),
        ]
        assert {line["address"] for line in lines.parsed} == {"203.0.113.9"}
        assert [line.get("via") for line in lines.parsed] == ["unix"] * 4 + [None]
        assert lines.parsed[-1]["methods"] == {"WatchRun": 2}


@pytest.mark.parametrize("said", ["nonsense", "203.0.113.9:80", "x" * 100, "", "203.0.113.9\t"])
async def test_what_is_no_address_is_not_told(tmp_path: Path, said: str) -> None:
    async with guarded_core([echo()], tmp_path) as core:
        lines = Lines()
        with audit_log.write_audit_to(lines.append):
            await core.admin.with_options(metadata={CLIENT_ADDRESS: said.strip()}).agents.get()
    expected = ("203.0.113.9", "unix") if said.endswith("\t") else ("unix", None)
    assert (lines.parsed[0]["address"], lines.parsed[0].get("via")) == expected


async def test_a_socket_that_everybody_can_open_is_no_gateways(tmp_path: Path) -> None:
    listen = [f"unix:{tmp_path}/core.sock", f"unix-abstract:{tmp_path.name}-audited"]
    async with guarded_core([echo()], tmp_path, listen=listen) as core:
        lines = Lines()
        with audit_log.write_audit_to(lines.append):
            await core.admin.with_options(metadata=ELSEWHERE).agents.get()
    assert (lines.parsed[0]["address"], lines.parsed[0].get("via")) == ("unix", None)


async def test_a_gateway_is_known_by_its_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("core")
    settings = {
        "tls_cert": cert,
        "tls_key": key,
        "tls_client_ca": authority.file,
        "gateway_names": ["gate.internal"],
    }
    named = [
        authority.issue("gate.internal"),
        authority.issue("other", "gate.internal"),
        authority.issue("stranger"),
    ]
    lines = Lines()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            running_core([echo()], tmp_path, listen=["127.0.0.1:0"], **settings)
        )
        stack.enter_context(audit_log.write_audit_to(lines.append))
        for client_cert, client_key in named:
            tls = channel_credentials(authority.file, cert=client_cert, key=client_key)
            async with Client(server.addresses[0], tls=tls, metadata=ELSEWHERE) as client:
                await client.agents.get()
    known = ("203.0.113.9", "127.0.0.1")
    assert [(line["address"], line.get("via")) for line in lines.parsed] == [
        known,
        known,
        ("127.0.0.1", None),
    ]


async def test_names_of_gateways_need_certificates_of_clients(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gateway-names .* needs .*tls-client-ca"):
        async with running_core([echo()], tmp_path, gateway_names=["gate"]):
            pass
