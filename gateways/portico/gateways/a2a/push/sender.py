"""Posts one notification to one receiver, with retries until it is accepted, refused or given up."""

import asyncio
import random
import time

import httpx

from portico.gateways.a2a.push.address_check import AddressCheck, AddressRefused, Target
from portico.gateways.a2a.push.payloads import Payload
from portico.gateways.a2a.settings import A2aSettings
from portico.telemetry.metrics.counters import Counters
from portico.v1 import push_pb2

FIRST_SECONDS, LONGEST_SECONDS = 0.5, 60.0
_REFUSED = 300
_GONE = 410
# Statuses that are retried; any other error status is final for the notification.
_AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504))


class DeliveryAbandoned(Exception):
    """The receiver will not be tried again."""


class Sender:
    """Posts to receivers that the guard allows. Does not follow redirects, which could lead to others."""

    def __init__(self, guard: AddressCheck, settings: A2aSettings) -> None:
        self._guard = guard
        self._give_up_seconds = settings.push_seconds
        self._sent = Counters(
            "portico.push.deliveries",
            "{notification}",
            "Notifications that receivers accepted or refused, attempts that failed, and configs given up.",
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
        """Returns when the notification was accepted, or refused finally. Raises DeliveryAbandoned."""
        try:
            taken = await self._try(config, payload)
        except DeliveryAbandoned:
            self._sent.add("given_up")
            raise
        self._sent.add("taken" if taken else "refused")

    async def _try(self, config: push_pb2.PushConfig, payload: Payload) -> bool:
        """Returns whether the notification was accepted. Raises DeliveryAbandoned."""
        until = time.monotonic() + self._give_up_seconds
        pause = FIRST_SECONDS
        while True:
            try:
                status = await self._post(config, await self._guard.check(config.url), payload)
                if status == _GONE:
                    raise DeliveryAbandoned("the receiver answered 410 Gone")
                if status not in _AGAIN:
                    return status < _REFUSED
                problem = f"the receiver answered {status}"
            except AddressRefused as refusal:
                # A name may resolve again later; a non-public address is retried too, without effect.
                problem = f"the URL {refusal}"
            except httpx.HTTPError as error:
                problem = type(error).__name__
            self._sent.add("failed")
            if time.monotonic() + pause > until:
                raise DeliveryAbandoned(problem)
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
            # To the address that was checked, even if the name has changed since.
            url.copy_with(host=target.address),
            content=payload.body,
            headers=headers,
            extensions={"sni_hostname": target.host},
        )
        response = await self._client.send(request, stream=True)
        await response.aclose()  # only the status matters
        return response.status_code
