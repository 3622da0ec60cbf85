"""Sandboxes with a network, within what the operator's settings allow."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.egress import origin
from support.sandbox_calls import command

from portico.agent import AgentApp
from portico.client import Client, InvalidArgument
from portico.core.server.core_server import CoreServer
from portico.core.settings.core_settings import CoreSettings
from portico.v1 import sandbox_pb2 as pb

app = AgentApp("idle")


@app.query
async def query() -> AsyncIterator[str]:
    yield ""


async def test_settings_bound_what_callers_reach(tmp_path: Path) -> None:
    async with origin() as host, origin() as denied:
        settings = CoreSettings(
            listen=[f"unix:{tmp_path}/core.sock"],
            store="memory://",
            drain_seconds=0,
            sandbox_network_hosts=[f"127.0.0.1:{host.port}", f"127.0.0.2:{denied.port}", "*.example.com"],
            sandbox_network_deny=["127.0.0.2/32"],
            sandbox_network_open=["127.0.0.0/8"],
        )
        server = CoreServer([app], settings)
        await server.start()
        try:
            async with Client(server.addresses[0]) as client:
                for foreign in ("pypi.org", f"127.0.0.1:{host.port + 1}"):
                    with pytest.raises(InvalidArgument, match="operator"):
                        await client.sandboxes.create(pb.SandboxSpec(allow_hosts=[foreign]))
                allowed = [f"127.0.0.1:{host.port}", f"127.0.0.2:{denied.port}"]
                spec = pb.SandboxSpec(allow_hosts=allowed, env={"no_proxy": "", "NO_PROXY": ""})
                made = await client.sandboxes.create(spec)
                assert list(made.spec.allow_hosts) == allowed
                get = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"
                for url, said in ((f"http://{allowed[0]}/", "ok\n"), (f"http://{allowed[1]}/", "")):
                    assert (await command(client, made.sandbox_id, ["python3", "-c", get, url]))[0] == said
                assert denied.got == []
        finally:
            await asyncio.wait_for(server.stop(), 30)
