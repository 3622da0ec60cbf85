"""The owner that a request is about, and what a caller may do: only its credential decides."""

import asyncio
from collections.abc import AsyncIterator
from contextvars import copy_context
from dataclasses import replace

import pytest
from support.agent_calls import calling
from support.engine import request
from support.rpcs import METHODS

from portico.agent import AgentApp
from portico.core.convert.events import ProtoEncoder
from portico.core.errors import InvalidArgument, PermissionDenied, RunNotFound, Unauthenticated
from portico.core.execution.execution import Execution
from portico.core.hosts.local.local_host import LocalHost
from portico.core.runs.run_engine import RunEngine
from portico.core.services.rpc.current_principal import (
    ANONYMOUS,
    PrincipalNotBound,
    bind_principal,
    check_run_access,
    check_scope,
    current_principal_or_none,
    is_anonymous,
    is_visible,
    required_scope,
    resolve_list_owner,
    resolve_owner,
    session_owner,
)
from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stores import Commit, RunRecord
from portico.model.identity import UNAUTHENTICATED_OPERATOR, Principal, make_principal, owner_key

ADA = owner_key("acme", "ada")
BOB = owner_key("acme", "bob")
EVE = owner_key("globex", "eve")


def ada(*scopes: str) -> Principal:
    return make_principal("acme", "ada", frozenset(scopes))


def test_a_caller_is_its_credentials_user_whether_it_says_so_or_nothing() -> None:
    with calling(ada("use")):
        for said in ("", "ada"):
            assert resolve_owner(said) == ADA
            assert resolve_list_owner(said) == ADA
            assert session_owner(said, "s") == ADA
        for ask in (resolve_owner, resolve_list_owner, lambda user: session_owner(user, "s")):
            for other in ("bob", ADA, BOB, EVE):
                with pytest.raises(PermissionDenied) as caught:
                    ask(other)
                assert caught.value.metadata == {"field": "user_id"}


def test_who_acts_for_others_does_so_within_its_tenant() -> None:
    with calling(ada("act-as")):
        assert (resolve_owner(""), resolve_owner("ada"), resolve_owner("bob")) == (ADA, ADA, BOB)
        assert resolve_list_owner("") == ADA
        for wrong in (EVE, "x" * 10_000):
            with pytest.raises(InvalidArgument):
                resolve_owner(wrong)


def test_an_operator_names_any_tenants_user_and_lists_everybodys() -> None:
    with calling(ada("admin")):
        assert resolve_list_owner("") == ""
        assert (resolve_owner(""), resolve_owner("bob"), resolve_owner(EVE)) == (ADA, BOB, EVE)
        assert resolve_list_owner(EVE) == EVE


def test_who_is_believed_must_say_who_it_is() -> None:
    with calling(UNAUTHENTICATED_OPERATOR):
        assert (resolve_owner("ada"), session_owner("ada", "s"), session_owner("", "s")) == (
            "ada",
            "ada",
            "s",
        )
        assert resolve_owner("", required=False) == ""
        with pytest.raises(InvalidArgument):
            resolve_owner("")
        with pytest.raises(InvalidArgument):
            resolve_owner(EVE)


def test_a_call_is_its_callers_from_then_on_and_no_other_is() -> None:
    def call() -> str:
        with pytest.raises(PrincipalNotBound):
            resolve_owner("")
        bind_principal(ada("use"))
        return resolve_owner("")

    assert copy_context().run(call) == ADA
    assert current_principal_or_none() is None


def test_nothing_is_anonymous_peoples_own() -> None:
    with calling(ANONYMOUS):
        assert is_anonymous()
        assert current_principal_or_none() is ANONYMOUS
        for ask in (lambda: resolve_owner(""), lambda: resolve_list_owner(""), lambda: is_visible("")):
            with pytest.raises(Unauthenticated):
                ask()
    assert current_principal_or_none() is None
    with calling(ada("use")):
        assert not is_anonymous()


@pytest.mark.parametrize(
    ("scope", "own", "tenants", "others"),
    [
        # Full access, and access for reading only.
        ("read", "do", "", ""),
        ("use", "do", "", ""),
        ("act-as", "do", "do", ""),
        ("deliver", "do", "read", "read"),
        ("admin", "do", "do", "do"),
    ],
)
def test_what_is_whose_for_each_scope(scope: str, own: str, tenants: str, others: str) -> None:
    with calling(ada(scope)):
        for owner, may in ((ADA, own), (BOB, tenants), (EVE, others)):
            assert is_visible(owner) == (may == "do")
            assert is_visible(owner, reading=True) == (may != "")


def test_each_method_needs_the_scope_that_its_name_says() -> None:
    needed = {method.name: required_scope(method.name) for method in METHODS}
    assert {name for name, scope in needed.items() if scope == "admin"} == {
        "CreateKey",
        "ListKeys",
        "RevokeKey",
    }
    assert {name for name, scope in needed.items() if scope == "deliver"} == {"AckPush", "ClaimPushes"}
    reading = ("Get", "List", "Search", "Watch", "Read", "Stat")
    for name, scope in needed.items():
        if scope in ("read", "use"):
            assert (scope == "read") == (name.startswith(reading)), name
    assert {needed[name] for name in ("GetRun", "WatchRun", "StatFile")} == {"read"}
    assert {needed[name] for name in ("Query", "StartRun", "DeleteRun", "ForgetUser")} == {"use"}


def test_a_scope_allows_what_it_is_for_and_delivery_a_little_more() -> None:
    for scope, may in (
        ("read", {"GetRun", "ListRuns", "WatchRun", "GetCaller", "GetAgent", "ListAgents"}),
        ("deliver", {"GetRun", "WatchRun", "GetCaller", "GetAgent", "ListAgents", "AckPush"}),
    ):
        for method in (
            "GetRun",
            "ListRuns",
            "WatchRun",
            "GetCaller",
            "GetAgent",
            "ListAgents",
            "AckPush",
            "Query",
        ):
            if method in may:
                check_scope(ada(scope), method)
            else:
                with pytest.raises(PermissionDenied) as caught:
                    check_scope(ada(scope), method)
                assert caught.value.metadata == {"scope": required_scope(method)}
    with pytest.raises(PermissionDenied):
        check_scope(ada("act-as"), "CreateKey")
    check_scope(ada("admin"), "CreateKey")


@pytest.fixture
async def engine() -> AsyncIterator[RunEngine]:
    app = AgentApp("test")

    @app.query
    async def query(msgs: list[object]) -> AsyncIterator[str]:
        yield "x"
        await asyncio.sleep(600)

    stores = await open_stores("memory://")
    runs = [
        RunRecord(f"of {owner}", "test", owner, "s", "completed", 1.0, 1.0, 0, 1, True, None, b"", b"")
        for owner in (ADA, BOB)
    ]
    await stores.runs.commit(Commit(runs))
    engine = RunEngine(LocalHost([app]), stores, ProtoEncoder())
    await engine.start()
    yield engine
    await engine.stop()
    await stores.close()


async def test_a_run_of_anothers_is_not_there(engine: RunEngine) -> None:
    with calling(ada("use")):
        await check_run_access(engine, f"of {ADA}")
        for run_id in (f"of {BOB}", "resp_nobody"):
            for reading in (False, True):
                with pytest.raises(RunNotFound) as caught:
                    await check_run_access(engine, run_id, reading=reading)
                assert caught.value.metadata == {"run_id": run_id}
    with calling(ada("deliver")):
        await check_run_access(engine, f"of {BOB}", reading=True)
        with pytest.raises(RunNotFound):
            await check_run_access(engine, f"of {BOB}")
    with calling(UNAUTHENTICATED_OPERATOR):
        await check_run_access(engine, f"of {BOB}")
        await check_run_access(engine, "resp_nobody")  # while auth is off nothing is hidden
    with calling(ANONYMOUS), pytest.raises(Unauthenticated):
        await check_run_access(engine, f"of {ADA}")


async def test_a_live_run_is_its_owners_alone(engine: RunEngine) -> None:
    execution = engine.admit_now(replace(request("hi", background=True), owner=ADA))
    assert isinstance(execution, Execution)
    run = execution.run
    await run.wait_published(0)
    with calling(ada("use")):
        await check_run_access(engine, run.run_id)
    with calling(make_principal("acme", "bob", frozenset(("use",)))), pytest.raises(RunNotFound):
        await check_run_access(engine, run.run_id)
    with calling(ada("deliver")):
        await check_run_access(engine, run.run_id, reading=True)
    await engine.cancel(run.run_id)
