"""Push notification configs, which the core stores for the delivering gateways."""

from a2a.types import a2a_pb2 as a2a
from a2a.utils.constants import PROTOCOL_VERSION_0_3
from a2a.utils.errors import PushNotificationNotSupportedError, TaskNotFoundError

from portico.client import Client, NotFound
from portico.gateways.a2a.call_context import Caller
from portico.gateways.a2a.errors import invalid
from portico.gateways.a2a.push.address_check import AddressCheck, AddressRefused
from portico.gateways.a2a.push.payloads import OLD
from portico.gateways.http.core_connection import CoreConnection
from portico.v1 import push_pb2


class Notifications:
    """The configs of all runs, in A2A's format."""

    def __init__(self, core: CoreConnection, guard: AddressCheck, *, offered: bool) -> None:
        self._core = core
        self._guard = guard
        self._offered = offered

    def offered(self) -> None:
        """Raises PushNotificationNotSupportedError if this gateway has push notifications turned off."""
        if not self._offered:
            raise PushNotificationNotSupportedError

    def wanted(self, config: a2a.SendMessageConfiguration) -> a2a.TaskPushNotificationConfig | None:
        """Returns the config in a message, if any. Raises PushNotificationNotSupportedError."""
        if not config.HasField("task_push_notification_config"):
            return None
        self.offered()
        return config.task_push_notification_config

    async def check(self, config: a2a.TaskPushNotificationConfig) -> None:
        """Raises InvalidParamsError for a receiver that must not be called."""
        try:
            await self._guard.check(config.url)
        except AddressRefused as refusal:
            raise invalid("url", str(refusal)) from None

    async def set(
        self, config: a2a.TaskPushNotificationConfig, task_id: str, caller: Caller, *, from_start: bool
    ) -> a2a.TaskPushNotificationConfig:
        """Stores a config. Raises PorticoError."""
        given = push_pb2.PushConfig(
            run_id=task_id,
            config_id=config.id,
            url=config.url,
            token=config.token,
            auth_scheme=config.authentication.scheme,
            auth_credentials=config.authentication.credentials,
            protocol=OLD if caller.version == PROTOCOL_VERSION_0_3 else "",
        )
        return _told(await self._client(caller).pushes.set(given, from_start=from_start))

    async def get(self, task_id: str, config_id: str, caller: Caller) -> a2a.TaskPushNotificationConfig:
        """Returns a config. Raises TaskNotFoundError, PorticoError."""
        try:
            return _told(await self._client(caller).pushes.get(task_id, config_id))
        except NotFound:
            raise TaskNotFoundError(
                message="Unknown push notification config",
                data={"taskId": task_id, "id": config_id},
            ) from None

    async def list(
        self, params: a2a.ListTaskPushNotificationConfigsRequest, caller: Caller
    ) -> a2a.ListTaskPushNotificationConfigsResponse:
        """Lists the configs of a task. Raises PorticoError."""
        pushes = self._client(caller).pushes
        page = await pushes.list(
            params.task_id, page_size=params.page_size, page_token=params.page_token
        ).page()
        return a2a.ListTaskPushNotificationConfigsResponse(
            configs=[_told(config) for config in page.configs], next_page_token=page.next_page_token
        )

    async def delete(self, task_id: str, config_id: str, caller: Caller) -> None:
        """Deletes a config. Raises PorticoError."""
        await self._client(caller).pushes.delete(task_id, config_id)

    def _client(self, caller: Caller) -> Client:
        return self._core.client.with_options(metadata=caller.metadata)


def _told(config: push_pb2.PushConfig) -> a2a.TaskPushNotificationConfig:
    """Converts a config, without its token and credentials, which are for the receiver only."""
    told = a2a.TaskPushNotificationConfig(id=config.config_id, task_id=config.run_id, url=config.url)
    if config.auth_scheme:
        told.authentication.scheme = config.auth_scheme
    return told
