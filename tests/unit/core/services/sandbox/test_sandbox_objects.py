"""Objects and results of sandboxes that are too large, through gRPC."""

import asyncio
import logging
import time
from pathlib import Path

import pytest

from portico.agent import AgentApp
from portico.client import Client, PorticoError
from portico.core.server.core_server import CoreServer
from portico.core.settings.core_settings import CoreSettings
from portico.v1 import sandbox_pb2 as pb

HUGE = """
class Huge:
    def _repr_mimebundle_(self, **_): return {"application/json": [[]] * 5_500_000, "text/plain": "huge"}
Huge()
"""


async def test_a_huge_object_ends_its_cell_and_delays_nobody_else(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    spec = pb.SandboxSpec(limits=pb.SandboxLimits(memory_bytes=1 << 30))
    mine = (await client.sandboxes.create(spec, user_id="ann")).sandbox_id
    other = (await client.sandboxes.create(user_id="bob")).sandbox_id
    waits: list[float] = []

    async def probe() -> None:
        while True:
            began = time.monotonic()
            async for _ in client.sandboxes.run_cell(other, "1"):
                pass
            waits.append(time.monotonic() - began)

    probing = asyncio.ensure_future(probe())
    events = [event async for event in client.sandboxes.run_cell(mine, HUGE)]
    probing.cancel()
    await asyncio.gather(probing, return_exceptions=True)
    assert [dict(event.rich.data) for event in events[:-1]] == [{"text/plain": b"huge"}]
    failure = events[-1].end.failure
    assert (failure.reason, failure.limit, failure.kernel_lost) == ("LIMIT_EXCEEDED", "output", False)
    assert "application/json" in failure.message
    assert max(waits) < 3  # it was 4.3 s with nothing else on the machine
    assert not [record for record in caplog.records if record.exc_info]


async def test_what_no_message_can_carry_is_a_typed_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = CoreSettings(
        listen=[f"unix:{tmp_path}/core.sock"], store="memory://", max_message_bytes=256 * 1024
    )
    app = AgentApp("unused")

    @app.query
    async def query(msgs: object, context: object) -> str:
        return ""

    server = CoreServer([app], settings)
    await server.start()
    try:
        async with Client(server.addresses[0]) as client:
            box = (await client.sandboxes.create()).sandbox_id
            with pytest.raises(PorticoError) as raised:
                async for _ in client.sandboxes.run_cell(box, "'x' * 1_000_000"):
                    pass
            assert (raised.value.reason, raised.value.metadata["limit"]) == ("LIMIT_EXCEEDED", "message")
            with pytest.raises(PorticoError) as raised:
                await client.sandboxes.call_tool(box, "run_ipython_cell", {"code": "print('x' * 1_000_000)"})
            assert (raised.value.reason, raised.value.metadata["limit"]) == ("LIMIT_EXCEEDED", "message")
            async for event in client.sandboxes.run_cell(box, "1"):
                assert not event.HasField("end") or not event.end.HasField("failure")
    finally:
        await asyncio.wait_for(server.stop(), 30)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
