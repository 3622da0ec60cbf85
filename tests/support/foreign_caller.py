"""All kinds of data that one user can have in a core, for tests in which another user requests it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.identity import Callers, guarded_core

from portico.agent import AgentApp, Context
from portico.client import Client, NotFound
from portico.v1 import events_pb2, push_pb2, sandbox_pb2

SECRET = "alabaster"  # contained in all data of the owner, and nowhere else
TENANT, USER = "acme", "ada"


def keeper() -> AgentApp:
    """Answers with its input; asks a question and waits if the input says so."""
    app = AgentApp("keeper")

    @app.query
    async def query(msgs: list[Any], context: Context) -> AsyncIterator[str]:
        assert await context.once("say", lambda: msgs[-1].text) == msgs[-1].text
        if "wait" in msgs[-1].text:
            await context.input_required("well?")
        yield msgs[-1].text

    @app.endpoint("/who")
    async def who(user_id: str = "") -> str:
        return user_id

    return app


@dataclass(frozen=True)
class Estate:
    """The data of ada of acme, and the names of each item, as the tests' tables use them."""

    core: Callers
    owner: Client
    credential: str
    names: Mapping[str, str]

    async def intact(self) -> None:
        """Asserts that all data exists unchanged."""
        names = self.names
        for run in ("run", "live"):
            assert (await self.owner.runs.get(names[run])).response.id == names[run]
        live = await self.owner.runs.get(names["live"])
        assert live.response.status == events_pb2.RUN_STATUS_INPUT_REQUIRED
        session = await self.owner.sessions.get(names["session"])
        assert SECRET in session.metadata_json
        assert len([one async for one in self.owner.sessions.list_messages(names["session"])]) == 3
        states = [one async for one in self.owner.states.list()]
        assert [one.round_id for one in states] == [1]
        assert len([one async for one in self.owner.memories.list()]) == 1
        sandboxes = [one async for one in self.owner.sandboxes.list()]
        assert [(one.sandbox_id, one.state) for one in sandboxes] == [
            (names["sandbox"], sandbox_pb2.SANDBOX_STATE_RUNNING)
        ]
        files = await self.owner.sandboxes.list_directory(names["sandbox"])
        assert [file.path.rpartition("/")[2] for file in files] == ["note"]
        assert len([one async for one in self.owner.pushes.list(names["run"])]) == 1


@asynccontextmanager
async def estate(directory: Path, **settings: Any) -> AsyncIterator[Estate]:
    """Starts a core in which ada of acme has one item of each kind."""
    async with guarded_core([keeper()], directory, **settings) as core:
        credential = await core.key(USER, TENANT)
        owner = core.admin.with_options(credential=credential)
        await owner.sessions.create(session_id="seance", metadata={"secret": SECRET})
        [message] = await owner.sessions.append_messages("seance", SECRET)
        run = await owner.runs.start(SECRET, session_id="seance")
        assert SECRET in await owner.runs.watch(run.response.id).text()
        live = await owner.runs.start(f"wait {SECRET}", session_id="elsewhere")
        async for _ in owner.runs.watch(live.response.id):
            pass
        await owner.states.save({"secret": SECRET}, session_id="seance")
        [memory] = await owner.memories.add([SECRET], key="keepsake")
        box = await owner.sandboxes.create(session_id="seance")
        await owner.sandboxes.write_file(box.sandbox_id, "note", SECRET)
        snapshot = await owner.sandboxes.create_snapshot(box.sandbox_id)
        config = push_pb2.PushConfig(run_id=run.response.id, url=f"http://127.0.0.1/{SECRET}", token=SECRET)
        config = await owner.pushes.set(config)
        key, _ = await core.admin.identity.create_key(user_id=USER, tenant=TENANT)
        names = {
            "run": run.response.id,
            "live": live.response.id,
            "session": "seance",
            "message": message.message.id,
            "memory": memory.memory_id,
            "memory_key": memory.key,
            "sandbox": box.sandbox_id,
            "snapshot": snapshot.snapshot_id,
            "config": config.config_id,
            "key": key.key_id,
            "user": USER,
        }
        yield Estate(core, owner, credential, names)
        with suppress(NotFound):  # a test has removed the owner
            await asyncio.wait_for(core.admin.runs.cancel(live.response.id), 10)


UNKNOWN = {
    "run": "resp_0199aaaaaaaabbbbbbbbbbbbbbbbbbbb",
    "live": "resp_0199aaaaaaaabbbbbbbbbbbbbbbbbbbb",
    "session": "no-such-seance",
    "message": "msg_0199aaaaaaaabbbbbbbbbbbbbbbbbbbb",
    "memory": "mem_0199aaaaaaaabbbbbbbbbbbbbbbbbbbb",
    "memory_key": "no-such-keepsake",
    "sandbox": "sbx_0199aaaaaaaabbbbbbbbbbbbbbbbbbbb",
    "snapshot": "snap_0199aaaaaaaabbbbbbbbbbbbbbbbbbbb",
    "config": "push_0199aaaaaaaabbbbbbbbbbbbbbbbbbbb",
    "key": "pk_0199aaaaaaaabbbbbbbb",
}


def filled(template: Any, names: Mapping[str, str]) -> Any:
    """Returns the template with {name} replaced in every text."""
    if isinstance(template, dict):
        return {key: filled(value, names) for key, value in template.items()}
    if isinstance(template, list):
        return [filled(value, names) for value in template]
    if isinstance(template, str):
        for name, value in names.items():
            template = template.replace(f"{{{name}}}", value)
    return template


def nameless(text: str, names: Mapping[str, str]) -> str:
    """The reverse: makes two texts equal that differ only in names."""
    for name, value in sorted(names.items(), key=lambda item: -len(item[1])):
        if len(value) > 3:  # "ada" is part of many words
            text = text.replace(value, f"{{{'run' if name == 'live' else name}}}")
    return text
