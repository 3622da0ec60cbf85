"""Push notifications: content, receivers, order, and behaviour towards misbehaving receivers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from a2a.types import a2a_pb2 as a2a
from a2a.utils.errors import InvalidParamsError, TaskNotFoundError
from support.a2a_gateways import BINDINGS, Gateway, running_core, running_gateway
from support.deployment import eventually
from support.measurements import measuring

from portico.core.errors import StoreUnavailable
from portico.gateways.a2a.push.address_check import AddressCheck, AddressRefused
from portico.gateways.a2a.push.delivery import Delivery
from portico.v1 import push_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Receiver:
    """A webhook with scripted answers."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.statuses: list[int] = []  # statuses of the next answers; 200 after these
        self.pause = 0.0
        self.location = ""  # location of redirects
        self.asked = 0
        self.more = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.asked += 1
                lines = head.decode().split("\r\n")[1:-2]
                headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines)}
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                await asyncio.sleep(self.pause)
                status = self.statuses.pop(0) if self.statuses else 200
                if status == 200:
                    self.bodies.append(body)
                    self.headers.append(headers)
                location = f"location: {self.location}\r\n".encode() if self.location else b""
                writer.write(b"HTTP/1.1 %d x\r\n%bcontent-length: 0\r\n\r\n" % (status, location))
                self.more.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def until(self, check: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not check():
                self.more.clear()
                await self.more.wait()

    @property
    def ended(self) -> bool:
        return bool(self.bodies) and self.bodies[-1].get("statusUpdate", {}).get("status", {}).get(
            "state"
        ) in ("TASK_STATE_COMPLETED", "TASK_STATE_CANCELED")

    @property
    def text(self) -> str:
        parts = [
            part["text"]
            for body in self.bodies
            if "artifactUpdate" in body
            for part in body["artifactUpdate"]["artifact"]["parts"]
        ]
        return "".join(parts)


@pytest_asyncio.fixture(loop_scope="module")
async def receiver() -> AsyncIterator[tuple[Receiver, str]]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver, "127.0.0.1", 0)
    yield receiver, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    server.close()


def ask(words: str, url: str = "", **more: Any) -> a2a.SendMessageRequest:
    message = a2a.Message(message_id="m", role=a2a.ROLE_USER, parts=[a2a.Part(text=words)], **more)
    configuration = a2a.SendMessageConfiguration(return_immediately=True)
    if url:
        configuration.task_push_notification_config.CopyFrom(
            a2a.TaskPushNotificationConfig(
                id="hook",
                url=url,
                token="tok",
                authentication=a2a.AuthenticationInfo(scheme="Bearer", credentials="cred"),
            )
        )
    return a2a.SendMessageRequest(message=message, configuration=configuration)


async def send(gateway: Gateway, request: a2a.SendMessageRequest, binding: str = "JSONRPC") -> a2a.Task:
    client = await gateway.client(binding, streaming=False)
    answers = [answer async for answer in client.send_message(request)]
    return answers[0].task


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_task_is_told_from_its_beginning_to_its_end(
    gateway: Gateway, receiver: tuple[Receiver, str], binding: str
) -> None:
    told, url = receiver
    task = await send(gateway, ask("count 50", url), binding)
    await told.until(lambda: told.ended)
    assert list(told.bodies[0]) == ["task"]
    assert told.bodies[0]["task"]["id"] == task.id
    assert all(len(body) == 1 for body in told.bodies)
    assert told.text == "".join(f"{number} " for number in range(50))
    headers = told.headers[0]
    assert headers["authorization"] == "Bearer cred"
    assert headers["x-a2a-notification-token"] == "tok"
    assert headers["content-type"] == "application/a2a+json"
    assert headers["host"] in url


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_receiver_of_0_3_gets_the_task_as_it_stands(
    gateway: Gateway, receiver: tuple[Receiver, str], tmp_path: Path, binding: str
) -> None:
    told, url = receiver
    old = await gateway.client(binding, version="0.3", streaming=False)
    (answer,) = [answer async for answer in old.send_message(ask("ask", url))]
    task = answer.task
    await told.until(lambda: bool(told.bodies) and told.bodies[-1]["status"]["state"] == "input-required")
    assert told.bodies[-1]["status"]["message"]["parts"] == [{"kind": "text", "text": "Which city?"}]
    # Set later through 0.3; the message that follows uses 1.0.
    await old.create_task_push_notification_config(
        a2a.TaskPushNotificationConfig(task_id=task.id, id="later", url=url, token="later")
    )
    await send(gateway, ask("Rome", task_id=task.id))
    await told.until(lambda: [body["status"]["state"] for body in told.bodies].count("completed") == 2)
    for body in told.bodies:
        assert (body["kind"], body["id"], body["contextId"]) == ("task", task.id, task.context_id)
    for token in ("tok", "later"):
        last = [
            body
            for body, headers in zip(told.bodies, told.headers, strict=True)
            if headers["x-a2a-notification-token"] == token
        ][-1]
        assert last["artifacts"][0]["parts"] == [{"kind": "text", "text": "You said Rome."}]
        assert [message["kind"] for message in last["history"]] == ["message"] * len(last["history"])
    assert {headers["content-type"] for headers in told.headers} == {"application/json"}
    assert told.headers[0]["authorization"] == "Bearer cred"


async def test_a_receiver_of_0_3_is_not_told_of_every_chunk(
    gateway: Gateway, receiver: tuple[Receiver, str]
) -> None:
    told, url = receiver
    old = await gateway.client("JSONRPC", version="0.3", streaming=False)
    [answer async for answer in old.send_message(ask("count 300", url))]
    await told.until(lambda: bool(told.bodies) and told.bodies[-1]["status"]["state"] == "completed")
    assert told.bodies[-1]["artifacts"][0]["parts"][0]["text"].startswith("0 1 2 ")
    assert len(told.bodies) <= 5


@pytest.mark.parametrize("binding", BINDINGS)
async def test_configs_are_made_read_listed_and_deleted(gateway: Gateway, binding: str) -> None:
    client = await gateway.client(binding)
    task = await send(gateway, ask("quiet"))
    given = a2a.TaskPushNotificationConfig(task_id=task.id, url="http://127.0.0.1:9/", token="t")
    given.authentication.scheme, given.authentication.credentials = "Bearer", "cred"
    made = await client.create_task_push_notification_config(given)
    assert made.id
    # The config's secrets are for the receiver only.
    assert (made.task_id, made.url, made.token) == (task.id, given.url, "")
    assert made.authentication == a2a.AuthenticationInfo(scheme="Bearer")
    again = await client.get_task_push_notification_config(
        a2a.GetTaskPushNotificationConfigRequest(task_id=task.id, id=made.id)
    )
    assert again == made
    given.id = "second"
    await client.create_task_push_notification_config(given)
    listing = a2a.ListTaskPushNotificationConfigsRequest(task_id=task.id)
    listed = await client.list_task_push_notification_configs(listing)
    assert {config.id for config in listed.configs} == {made.id, "second"}
    assert {config.token + config.authentication.credentials for config in listed.configs} == {""}
    gone = a2a.DeleteTaskPushNotificationConfigRequest(task_id=task.id, id=made.id)
    for _ in range(2):
        await client.delete_task_push_notification_config(gone)
    with pytest.raises(TaskNotFoundError):
        await client.get_task_push_notification_config(
            a2a.GetTaskPushNotificationConfigRequest(task_id=task.id, id=made.id)
        )
    given.task_id = "resp_nobody"
    with pytest.raises(TaskNotFoundError):
        await client.create_task_push_notification_config(given)
    await client.cancel_task(a2a.CancelTaskRequest(id=task.id))


async def test_a_config_that_comes_late_hears_what_comes_later(
    gateway: Gateway, receiver: tuple[Receiver, str], tmp_path: Path
) -> None:
    told, url = receiver
    task = await send(gateway, ask(f"until {tmp_path}/go"))
    await asyncio.sleep(0.1)
    client = await gateway.client("JSONRPC")
    await client.create_task_push_notification_config(
        a2a.TaskPushNotificationConfig(task_id=task.id, url=url)
    )
    (tmp_path / "go").touch()
    await told.until(lambda: told.ended)
    assert told.text == "!"


async def test_a_question_and_what_follows_are_told(gateway: Gateway, receiver: tuple[Receiver, str]) -> None:
    told, url = receiver
    task = await send(gateway, ask("ask", url))
    await told.until(lambda: "Which city?" in json.dumps(told.bodies))
    await send(gateway, ask("Rome", task_id=task.id))
    await told.until(lambda: told.ended)
    states = [body["statusUpdate"]["status"]["state"] for body in told.bodies if "statusUpdate" in body]
    assert states == [
        f"TASK_STATE_{state}" for state in ("WORKING", "INPUT_REQUIRED", "WORKING", "COMPLETED")
    ]


async def test_a_receiver_that_fails_is_tried_again_in_order(
    gateway: Gateway, receiver: tuple[Receiver, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portico.gateways.a2a.push.sender.FIRST_SECONDS", 0.02)
    told, url = receiver
    told.statuses = [503, 500, 200, 429]
    await send(gateway, ask("count 20", url))
    await told.until(lambda: told.ended)
    assert list(told.bodies[0]) == ["task"]
    assert told.text == "".join(f"{number} " for number in range(20))


async def test_a_slow_receiver_slows_no_run_and_gets_larger_chunks(
    gateway: Gateway, receiver: tuple[Receiver, str]
) -> None:
    told, url = receiver
    told.pause = 0.1
    task = await send(gateway, ask("count 300", url))
    client = await gateway.client("JSONRPC")
    async with asyncio.timeout(2):
        while (await client.get_task(a2a.GetTaskRequest(id=task.id))).status.state < 3:
            await asyncio.sleep(0.02)
    told.pause = 0.0
    await told.until(lambda: told.ended)
    assert told.text == "".join(f"{number} " for number in range(300))
    assert len(told.bodies) < 100


async def test_what_one_gateway_left_another_delivers(tmp_path: Path, receiver: tuple[Receiver, str]) -> None:
    told, url = receiver
    async with running_core(tmp_path):
        async with running_gateway(tmp_path) as first:
            await send(first, ask(f"until {tmp_path}/go", url))
            await told.until(lambda: told.text == ".")
            # until the core has the acknowledgement; without it, the notification is delivered again
            await asyncio.sleep(0.2)
        seen = len(told.bodies)
        async with running_gateway(tmp_path):
            (tmp_path / "go").touch()
            await told.until(lambda: told.ended)
    assert told.text == ".!"
    assert "task" not in [name for body in told.bodies[seen:] for name in body]


async def test_what_was_acknowledged_is_not_delivered_again_after_a_mishap(
    tmp_path: Path, receiver: tuple[Receiver, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told, url = receiver
    mishaps: list[int] = []  # events that were delivered but not acknowledged to the core
    acknowledged: list[int] = []
    async with running_core(tmp_path) as core, running_gateway(tmp_path) as gateway:
        acknowledge = core._stores.pushes.acknowledge

        async def moody(run_id: str, config_id: str, revision: str, delivered: int, ended: bool) -> bool:
            if (tmp_path / "go").exists() and not mishaps:
                mishaps.append(delivered)
                raise StoreUnavailable("the disk is full")
            acknowledged.append(delivered)
            return await acknowledge(run_id, config_id, revision, delivered, ended)

        monkeypatch.setattr(core._stores.pushes, "acknowledge", moody)
        task = await send(gateway, ask(f"until {tmp_path}/go", url))
        run = core._engine.live(task.id)
        assert run is not None
        await told.until(lambda: told.text == ".")
        async with asyncio.timeout(10):
            while acknowledged[-1:] != [run.published]:
                await asyncio.sleep(0.01)
        seen = len(told.bodies)
        (tmp_path / "go").touch()
        async with asyncio.timeout(10):
            while not mishaps or acknowledged[-1] < mishaps[0]:
                await asyncio.sleep(0.01)
        await told.until(lambda: told.ended)
    again = told.bodies[seen:]
    assert "task" not in [name for body in again for name in body]
    assert set(told.text) == {".", "!"}
    assert told.text.count(".") == 1
    assert acknowledged == sorted(acknowledged)


async def test_a_gateway_claims_again_whatever_went_wrong(
    tmp_path: Path, receiver: tuple[Receiver, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told, url = receiver
    change, mishaps = Delivery._change, 0

    def moody(self: Delivery, changed: push_pb2.ClaimPushesResponse) -> None:
        nonlocal mishaps
        if changed.configs and not mishaps:
            mishaps += 1
            raise RuntimeError("a defect")
        change(self, changed)

    monkeypatch.setattr(Delivery, "_change", moody)
    async with running_core(tmp_path), running_gateway(tmp_path) as gateway:
        await send(gateway, ask("echo x", url))
        await told.until(lambda: told.ended)
    assert (told.text, mishaps) == ("x", 1)


async def test_undelivered_notifications_survive_a_restart_of_the_core(
    tmp_path: Path, receiver: tuple[Receiver, str]
) -> None:
    told, url = receiver
    store = f"sqlite:///{tmp_path}/p.db"
    async with running_core(tmp_path, store), running_gateway(tmp_path, push=True) as gateway:
        told.statuses = [503] * 100
        await send(gateway, ask("echo x", url))
        await told.until(lambda: len(told.statuses) < 100)
    told.statuses = []
    async with running_core(tmp_path, store), running_gateway(tmp_path):
        await told.until(lambda: told.ended)
    assert list(told.bodies[0]) == ["task"]
    assert told.text == "x"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(
    core_directory: Path, receiver: tuple[Receiver, str], status: int
) -> None:
    """A redirect counts as accepted; its target, which nobody has checked, is never called."""
    told, url = receiver
    secret = Receiver()
    inside = await asyncio.start_server(secret, "127.0.0.1", 0)
    told.location = f"http://127.0.0.1:{inside.sockets[0].getsockname()[1]}/latest/meta-data"
    told.statuses = [status, status]
    async with inside, running_gateway(core_directory) as gateway:
        await send(gateway, ask("count 5", url))
        await told.until(lambda: told.ended)
    assert not told.statuses
    assert (secret.bodies, secret.asked) == ([], 0)


async def test_a_receiver_that_is_gone_is_given_up(gateway: Gateway, receiver: tuple[Receiver, str]) -> None:
    told, url = receiver
    told.statuses = [410]
    await send(gateway, ask("count 5", url))
    await told.until(lambda: not told.statuses)
    await asyncio.sleep(0.2)
    assert told.bodies == []


async def test_deliveries_are_counted_by_outcome(
    tmp_path: Path, receiver: tuple[Receiver, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portico.gateways.a2a.push.sender.FIRST_SECONDS", 0.02)
    told, url = receiver
    with measuring() as read:
        # A core of its own: gateways of other tests claim pushes of the shared one.
        async with running_core(tmp_path), running_gateway(tmp_path) as gateway:
            told.statuses = [503, 500, 200, 400]
            await send(gateway, ask("count 20", url))
            await told.until(lambda: told.ended)
            await eventually(
                lambda: read().get("portico.push.deliveries", {}).get("taken", 0) >= len(told.bodies)
            )
            counted = read()["portico.push.deliveries"]
            assert (counted["failed"], counted["refused"], counted["taken"]) == (2, 1, len(told.bodies))
            told.statuses = [410]
            await send(gateway, ask("count 5", url))
            await eventually(lambda: read().get("portico.push.deliveries", {}).get("given_up") == 1)


async def test_receivers_that_are_not_public_are_refused(core_directory: Path) -> None:
    async with running_gateway(core_directory, push_allow=[]) as gateway:
        with pytest.raises(InvalidParamsError):
            await send(gateway, ask("echo x", "http://127.0.0.1:9/"))
        task = await send(gateway, ask("quiet"))
        client = await gateway.client("GRPC")
        with pytest.raises(InvalidParamsError):
            await client.create_task_push_notification_config(
                a2a.TaskPushNotificationConfig(task_id=task.id, url="http://localhost:9/")
            )
        await client.cancel_task(a2a.CancelTaskRequest(id=task.id))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://[2002:7f00:1::]/",
        "http://10.1.2.3/",
        "http://172.16.0.1/",
        "http://192.168.1.1/",
        "http://100.64.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://0.0.0.0/",
        "http://224.0.0.1/",
        "http://user:password@93.184.216.34/",
        "ftp://93.184.216.34/",
        "file:///etc/passwd",
        "https://",
        "nonsense",
        "http://no-such-host.invalid/",
    ],
)
async def test_the_guard_lets_only_public_addresses_pass(url: str) -> None:
    with pytest.raises(AddressRefused):
        await AddressCheck(()).check(url)


async def test_the_guard_lets_pass_what_is_public_or_allowed() -> None:
    target = await AddressCheck(()).check("https://93.184.216.34:8443/x?y")
    assert (target.address, target.port) == ("93.184.216.34", 8443)
    assert (await AddressCheck(["10.0.0.0/8"]).check("http://10.1.2.3/")).address == "10.1.2.3"
    await AddressCheck(["LOCALHOST"]).check("http://localhost/")
    with pytest.raises(AddressRefused):
        await AddressCheck(["10.0.0.0/8"]).check("http://192.168.1.1/")
