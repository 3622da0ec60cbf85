"""One POST to one receiver, tried until it is taken or given up."""

import asyncio
import random
import time

import httpx

from portico.gateways.a2a.push.address_check import Guard, Refused, Target
from portico.gateways.a2a.push.payloads import Payload
from portico.gateways.a2a.settings import A2aSettings
from portico.telemetry.metrics.counters import Counts
from portico.v1 import push_pb2

FIRST_SECONDS, LONGEST_SECONDS = 0.5, 60.0
_REFUSED = 300
_GONE = 410
# Answers after which the same request may succeed; every other refusal is final for what was sent.
_AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504))


class GaveUp(Exception):
    """The receiver will not be tried any more."""


class Sender:
    """Posts to receivers that the guard lets pass, and follows no redirect to others."""

    def __init__(self, guard: Guard, settings: A2aSettings) -> None:
        self._guard = guard
        self._give_up_seconds = settings.push_seconds
        self._sent = Counts(
            "portico.push.deliveries",
            "{notification}",
            "Notifications that receivers took or refused, attempts that failed, and configs given up.",
            "outcome",
        )
        self._client = httpx.AsyncClient(
            timeout=settings.push_timeout,
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def send(self, config: push_pb2.PushConfig, payload: Payload) -> None:
        """Returns when it was taken, or refused for good. Raises GaveUp."""
        try:
            taken = await self._try(config, payload)
        except GaveUp:
            self._sent.add("given_up")
            raise
        self._sent.add("taken" if taken else "refused")

    async def _try(self, config: push_pb2.PushConfig, payload: Payload) -> bool:
        """Whether it was taken. Raises GaveUp."""
        until = time.monotonic() + self._give_up_seconds
        pause = FIRST_SECONDS
        while True:
            try:
                status = await self._post(config, await self._guard.check(config.url), payload)
                if status == _GONE:
                    raise GaveUp("it is gone")
                if status not in _AGAIN:
                    return status < _REFUSED
                problem = f"it answers {status}"
            except Refused as refusal:
                # A name may be found again later; an address that is not public stays so.
                problem = f"the URL {refusal}"
            except httpx.HTTPError as error:
                problem = type(error).__name__
            self._sent.add("failed")
            if time.monotonic() + pause > until:
                raise GaveUp(problem)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 2, LONGEST_SECONDS)

    async def _post(self, config: push_pb2.PushConfig, target: Target, payload: Payload) -> int:
        url = httpx.URL(target.url)
        headers = {"content-type": payload.media_type, "host": url.netloc.decode()}
        if config.token:
            headers["x-a2a-notification-token"] = config.token
        if config.auth_scheme:
            headers["authorization"] = f"{config.auth_scheme} {config.auth_credentials}".strip()
        request = self._client.build_request(
            "POST",
            # To the address that was judged, whatever the name means by now.
            url.copy_with(host=target.address),
            content=payload.body,
            headers=headers,
            extensions={"sni_hostname": target.host},
        )
        response = await self._client.send(request, stream=True)
        await response.aclose()  # what it says beside the status is of no interest
        return response.status_code
