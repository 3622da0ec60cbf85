"""The request handler: maps A2A's eleven operations to calls of the core. It stores no tasks itself."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from a2a.server.context import ServerCallContext
from a2a.server.request_handlers.request_handler import RequestHandler
from a2a.types import a2a_pb2 as a2a
from a2a.utils.constants import PROTOCOL_VERSION_0_3
from a2a.utils.errors import TaskNotCancelableError, TaskNotFoundError, UnsupportedOperationError
from a2a.utils.task import apply_history_length, validate_history_length
from google.protobuf.json_format import MessageToDict

from portico.client import DeadlineExceeded, FailedPrecondition, MultiplexedStream
from portico.gateways.a2a.agent_directory import AgentDirectory
from portico.gateways.a2a.call_context import Caller, caller_of
from portico.gateways.a2a.cards import Cards
from portico.gateways.a2a.errors import UnavailableError, streaming, unary
from portico.gateways.a2a.push.push_configs import Notifications
from portico.gateways.a2a.tasks.list_tasks import list_tasks
from portico.gateways.a2a.tasks.media_types import check_modes
from portico.gateways.a2a.tasks.start_task import (
    FollowedRun,
    client_of,
    continue_task,
    follow,
    replay,
    run_of,
    start,
)
from portico.gateways.a2a.tasks.task_status import ENDED, WAITING, state_of
from portico.gateways.a2a.tasks.translator import TaskTranslator, Update, direct_answer
from portico.gateways.http.core_connection import CoreConnection
from portico.v1 import agent_pb2

_Event: TypeAlias = a2a.Task | a2a.Message | Update


class A2aRequestHandler(RequestHandler):
    """The operations that all bindings and versions call."""

    def __init__(
        self, core: CoreConnection, agents: AgentDirectory, cards: Cards, notifications: Notifications
    ) -> None:
        self._core = core
        self._agents = agents
        self._cards = cards
        self._notifications = notifications
        self._open: set[MultiplexedStream] = set()
        self._stopped = False

    def stop(self) -> None:
        """Ends all streams; clients can follow their tasks on another gateway."""
        self._stopped = True
        for stream in tuple(self._open):
            stream.close()

    @contextmanager
    def _following(self, followed: FollowedRun) -> Iterator[MultiplexedStream]:
        self._open.add(followed.stream)
        try:
            if self._stopped:
                followed.stream.close()
            yield followed.stream
        finally:
            self._open.discard(followed.stream)
            followed.stream.close()

    async def agent(self, params: Any, context: ServerCallContext) -> tuple[agent_pb2.Agent, Caller]:
        """Returns the agent that a call addresses, and the caller."""
        caller = caller_of(context)
        return await self._agents.agent_for(caller, getattr(params, "tenant", "") or context.tenant), caller

    async def opened(
        self, params: a2a.SendMessageRequest, agent: agent_pb2.Agent, caller: Caller
    ) -> FollowedRun:
        """Returns the run that a message starts or continues. Raises A2AError, PorticoError."""
        check_modes(params, agent)
        validate_history_length(params.configuration)
        push = self._notifications.wanted(params.configuration)
        if push is not None:
            await self._notifications.check(push)
        open = continue_task if params.message.task_id else start
        return await open(self._core, agent, params, caller)

    async def announce(self, params: a2a.SendMessageRequest, task_id: str, caller: Caller) -> None:
        """Registers the push notification config of a message, if it has one."""
        push = self._notifications.wanted(params.configuration)
        if push is not None:
            await self._notifications.set(push, task_id, caller, from_start=not params.message.task_id)

    @unary
    async def on_message_send(
        self, params: a2a.SendMessageRequest, context: ServerCallContext
    ) -> a2a.Task | a2a.Message:
        agent, caller = await self.agent(params, context)
        followed = await self.opened(params, agent, caller)
        translator = followed.translator
        with self._following(followed) as stream:
            if followed.known:
                await self.announce(params, translator.task_id, caller)
            if not (followed.known and params.configuration.return_immediately):
                announced = followed.known
                async for frames in stream:
                    for frame in frames:
                        for event in frame.events:
                            translator.add_event(event)
                    if not announced:
                        announced = True
                        await self.announce(params, translator.task_id, caller)
                    if params.configuration.return_immediately:
                        break
        if not translator.task_id:
            raise UnavailableError(message="This gateway is stopping; use another one")
        if _direct(agent, translator):
            return direct_answer(translator.task())
        return apply_history_length(translator.task(), params.configuration)

    @streaming
    async def on_message_send_stream(
        self, params: a2a.SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[_Event, None]:
        agent, caller = await self.agent(params, context)
        if agent.answers_directly and not params.message.task_id:
            yield await self.on_message_send(params, context)
            return
        followed = await self.opened(params, agent, caller)
        async for event in self._events(followed, params, caller):
            yield event

    async def _events(
        self, followed: FollowedRun, params: a2a.SendMessageRequest | None, caller: Caller
    ) -> AsyncGenerator[_Event, None]:
        """Yields the task in its current state, then its updates."""
        translator = followed.translator
        shown = False
        with self._following(followed) as stream:
            if followed.known:
                shown = True
                if params is not None:
                    await self.announce(params, translator.task_id, caller)
                yield _snapshot(translator, params)
            async for frames in stream:
                for frame in frames:
                    for event in frame.events:
                        updates = translator.add_event(event)
                        if not shown:
                            shown = True
                            if params is not None:
                                await self.announce(params, translator.task_id, caller)
                            yield _snapshot(translator, params)
                        else:
                            for update in updates:
                                yield update

    @unary
    async def on_get_task(self, params: a2a.GetTaskRequest, context: ServerCallContext) -> a2a.Task:
        validate_history_length(params)
        agent, caller = await self.agent(params, context)
        run = await run_of(self._core, agent, params.id, caller)
        translator = await replay(self._core, run, run.last_sequence_number, caller)
        return apply_history_length(translator.task(), params)

    @unary
    async def on_list_tasks(
        self, params: a2a.ListTasksRequest, context: ServerCallContext
    ) -> a2a.ListTasksResponse:
        agent, caller = await self.agent(params, context)
        return await list_tasks(self._core, agent, params, caller)

    @unary
    async def on_cancel_task(self, params: a2a.CancelTaskRequest, context: ServerCallContext) -> a2a.Task:
        agent, caller = await self.agent(params, context)
        run = await run_of(self._core, agent, params.id, caller)
        if state_of(run.response) in ENDED:
            raise TaskNotCancelableError(data={"taskId": params.id})
        try:
            ended = await client_of(self._core, caller).runs.cancel(
                params.id, metadata=MessageToDict(params.metadata) or None
            )
            run.last_sequence_number = ended.last_sequence_number
        except FailedPrecondition:
            raise TaskNotCancelableError(data={"taskId": params.id}) from None
        except DeadlineExceeded:
            pass  # the agent has not stopped yet; the task shows its state
        translator = await replay(self._core, run, run.last_sequence_number, caller)
        return translator.task()

    @streaming
    async def on_subscribe_to_task(
        self, params: a2a.SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[_Event, None]:
        agent, caller = await self.agent(params, context)
        run = await run_of(self._core, agent, params.id, caller)
        if state_of(run.response) in ENDED:
            raise UnsupportedOperationError(
                message="The task has ended; use GetTask instead", data={"taskId": params.id}
            )
        followed = await follow(self._core, run, run.last_sequence_number, caller)
        async for event in self._events(followed, None, caller):
            yield event

    @unary
    async def on_create_task_push_notification_config(
        self, params: a2a.TaskPushNotificationConfig, context: ServerCallContext
    ) -> a2a.TaskPushNotificationConfig:
        agent, caller = await self._notified(params, context)
        await self._notifications.check(params)
        await run_of(self._core, agent, params.task_id, caller)
        return await self._notifications.set(params, params.task_id, caller, from_start=False)

    async def on_get_task_push_notification_config(
        self, params: a2a.GetTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> a2a.TaskPushNotificationConfig:
        if not params.id and caller_of(context).version == PROTOCOL_VERSION_0_3:
            # In 0.3, an empty id means the task's only config.
            every = a2a.ListTaskPushNotificationConfigsRequest(task_id=params.task_id)
            found = (await self.on_list_task_push_notification_configs(every, context)).configs
            if not found:
                raise TaskNotFoundError(message="The task has no push notification config")
            return found[0]
        return await self._push_config(params, context)

    @unary
    async def _push_config(
        self, params: a2a.GetTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> a2a.TaskPushNotificationConfig:
        agent, caller = await self._notified(params, context)
        await run_of(self._core, agent, params.task_id, caller)
        return await self._notifications.get(params.task_id, params.id, caller)

    @unary
    async def on_list_task_push_notification_configs(
        self, params: a2a.ListTaskPushNotificationConfigsRequest, context: ServerCallContext
    ) -> a2a.ListTaskPushNotificationConfigsResponse:
        agent, caller = await self._notified(params, context)
        await run_of(self._core, agent, params.task_id, caller)
        return await self._notifications.list(params, caller)

    @unary
    async def on_delete_task_push_notification_config(
        self, params: a2a.DeleteTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> None:
        agent, caller = await self._notified(params, context)
        await run_of(self._core, agent, params.task_id, caller)
        await self._notifications.delete(params.task_id, params.id, caller)

    async def _notified(self, params: Any, context: ServerCallContext) -> tuple[agent_pb2.Agent, Caller]:
        self._notifications.offered()
        return await self.agent(params, context)

    @unary
    async def on_get_extended_agent_card(
        self, params: a2a.GetExtendedAgentCardRequest, context: ServerCallContext
    ) -> a2a.AgentCard:
        agent, caller = await self.agent(params, context)
        card = self._cards.extended(agent, caller)
        if agent.needs_credential:
            # The core checks the credential; the gateway can't.
            await client_of(self._core, caller).identity.caller()
        return card


def _direct(agent: agent_pb2.Agent, translator: TaskTranslator) -> bool:
    """Returns whether the answer is a message instead of a task: the agent answers directly, and needed no
    input.
    """
    return (
        agent.answers_directly and not translator.asked_back and translator.state == a2a.TASK_STATE_COMPLETED
    )


def _snapshot(translator: TaskTranslator, params: a2a.SendMessageRequest | None) -> a2a.Task:
    task = translator.task()
    if translator.state not in WAITING:
        translator.forget()
    return task if params is None else apply_history_length(task, params.configuration)
