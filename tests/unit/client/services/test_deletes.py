"""The timeouts of calls that delete many items."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from portico.client.connection import Calls, Connection
from portico.client.services.memories import Memories
from portico.client.services.sessions import Sessions
from portico.v1 import memory_pb2, session_pb2


class Core:
    """Records the timeout of each call."""

    def __init__(self) -> None:
        self.timeouts: list[float] = []

    def calls(self, timeout: float) -> Calls:
        async def answer(response: object) -> object:
            return response

        def method(response: object) -> Any:
            def call(request: object, *, metadata: object, timeout: float) -> Any:
                self.timeouts.append(timeout)
                return answer(response)

            return call

        connection = SimpleNamespace(
            memories=SimpleNamespace(
                DeleteMemories=method(memory_pb2.DeleteMemoriesResponse(deleted_count=3))
            ),
            sessions=SimpleNamespace(DeleteSession=method(session_pb2.DeleteSessionResponse())),
        )
        return Calls(cast(Connection, connection), given=(), timeout=timeout)


@pytest.mark.parametrize(
    ("of_the_client", "of_the_call", "timeout"),
    [(30.0, None, 600.0), (3600.0, None, 3600.0), (30.0, 5.0, 5.0)],
)
async def test_a_delete_has_ten_minutes_unless_more_or_its_own_is_given(
    of_the_client: float, of_the_call: float | None, timeout: float
) -> None:
    core = Core()
    calls = core.calls(of_the_client)
    assert await Memories(calls).delete(user_id="ada", timeout=of_the_call) == 3
    await Sessions(calls).delete("s1", user_id="ada", timeout=of_the_call)
    assert core.timeouts == [timeout, timeout]
