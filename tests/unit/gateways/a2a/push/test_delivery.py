"""Delivery of notifications when the core refuses it."""

import asyncio
import logging
from pathlib import Path

import pytest
from support.a2a_gateways import scripted_agents
from support.identity import guarded_core

from portico.client import Multiplexer
from portico.gateways.a2a.push import delivery
from portico.gateways.a2a.push.address_check import AddressCheck
from portico.gateways.a2a.push.delivery import Delivery
from portico.gateways.a2a.settings import A2aSettings
from portico.gateways.http.core_connection import CoreConnection


async def test_a_missing_credential_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(delivery, "AGAIN_SECONDS", (0.0,))
    monkeypatch.setattr(delivery.log, "propagate", True)
    with caplog.at_level(logging.DEBUG, logger=delivery.log.name):
        async with (
            guarded_core(scripted_agents(), tmp_path) as core,
            core.nobody() as client,
            Multiplexer(client) as streams,
        ):
            delivering = Delivery(CoreConnection(client, streams), client, AddressCheck([]), A2aSettings())
            running = asyncio.create_task(delivering.run())
            async with asyncio.timeout(60):
                while delivering._refused.left_out < 20:
                    await asyncio.sleep(0.01)
            delivering.stop()
            await running
    told = [record.getMessage() for record in caplog.records if record.name == delivery.log.name]
    assert len(told) == 1
    assert "PORTICO_A2A_CREDENTIAL must be a key with the scope deliver" in told[0]
