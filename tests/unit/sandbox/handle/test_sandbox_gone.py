"""Callers read why a sandbox is gone, without the engine's details of the machine."""

import pytest
from docker.api.client import APIClient

from portico.sandbox import errors
from portico.sandbox.docker.docker_sandbox import DockerBox
from portico.sandbox.docker.engine import Engine
from portico.sandbox.handle.channel import Channel
from portico.sandbox.handle.pausing import Pausable
from portico.sandbox.spec import Spec

ENGINE = "127.0.0.1:9"


async def test_an_engine_that_does_not_answer_is_named_in_the_log_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = Engine(f"tcp://{ENGINE}")
    engine._api = APIClient(base_url=f"tcp://{ENGINE}", version="1.41")  # type: ignore[no-untyped-call]
    box = DockerBox("sbx_1", Spec(), engine, lambda box: None)
    box._container = "c"
    try:
        gone = await box._why()
    finally:
        await engine.close()
    assert gone.message == "sandbox sbx_1 is gone: the engine no longer has it"
    assert "does not answer" in caplog.text


class Stuck(Pausable):
    """A sandbox that its engine cannot resume."""

    def __init__(self) -> None:
        super().__init__()
        self.gone = None
        self.channel = Channel(lambda error: None)
        self.paused = True

    async def _freeze(self, frozen: bool) -> None:
        raise errors.BackendUnavailable(f"the engine at {ENGINE} does not answer")


async def test_a_call_of_a_sandbox_that_cannot_go_on_is_not_told_why() -> None:
    stuck = Stuck()
    with pytest.raises(errors.BackendUnavailable):
        await stuck.resume()
    with pytest.raises(errors.SandboxGone) as ended:
        stuck.channel.call("nothing")
    assert ENGINE not in ended.value.message
