"""Every call has a principal: EVERYBODY while auth is off. A call without one is an error."""

import inspect
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.agent_calls import calling
from support.rpcs import METHODS, call, path_of
from support.serving import running_core

from portico.agent import AgentApp
from portico.core.errors import Unauthenticated
from portico.core.server.core_server import CoreServer
from portico.core.services.agent import AgentService
from portico.core.services.multiplex import MultiplexConnection
from portico.core.services.query import QueryService
from portico.core.services.rpc import authentication, current_principal
from portico.model.identity import SCOPES, UNAUTHENTICATED_OPERATOR, Principal, make_principal
from portico.v1 import query_pb2


async def test_a_core_without_its_interceptor_believes_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CoreServer, "_interceptors", lambda self, calls: [])
    ran: list[str] = []
    app = AgentApp("agent")

    @app.query
    async def query(msgs: list[Any]) -> str:
        ran.append(msgs[-1].text)
        return ""

    async with (
        running_core([app], tmp_path) as core,
        grpc.aio.insecure_channel(core.addresses[0]) as channel,
    ):
        opens = query_pb2.MultiplexRequest()
        opens.actions.add(stream_id=1).query.request.input.add(role=1).content.add(type=1, text="hi")
        for method in METHODS:
            body = opens.SerializeToString() if method.name == "Multiplex" else b""
            error = await call(channel, method, [body], timeout=20)
            assert error is not None, path_of(method)
            assert error.code() is grpc.StatusCode.INTERNAL, (path_of(method), error)
    assert not ran


@pytest.mark.parametrize(
    "ask",
    [
        current_principal.current_principal,
        current_principal.authenticated_principal,
        current_principal.is_anonymous,
        lambda: current_principal.resolve_owner("ada"),
        lambda: current_principal.session_owner("ada", "s"),
        lambda: current_principal.resolve_list_owner(""),
        lambda: current_principal.is_visible("ada"),
    ],
)
def test_a_question_about_no_principal_is_a_defect(ask: Any) -> None:
    with pytest.raises(current_principal.PrincipalNotBound):
        ask()


@pytest.mark.parametrize(
    "made", [QueryService, MultiplexConnection, AgentService, authentication.Authentication]
)
def test_nothing_takes_a_missing_check_for_leave(made: Any) -> None:
    parameters = inspect.signature(made).parameters
    for name in ("authentication", "authenticator", "needs_credential"):
        if name in parameters:
            assert parameters[name].default is inspect.Parameter.empty
            assert "None" not in str(parameters[name].annotation)


def test_everybody_may_do_everything_as_whoever_it_says_it_is() -> None:
    with calling(UNAUTHENTICATED_OPERATOR):
        assert current_principal.resolve_owner("ada") == "ada"
        assert current_principal.resolve_owner("", required=False) == ""
        assert current_principal.session_owner("", "s") == "s"
        assert current_principal.resolve_list_owner("") == ""
        assert current_principal.is_visible("tenant:acme:ada")
    for scope in SCOPES:
        assert scope in UNAUTHENTICATED_OPERATOR.scopes


def test_no_other_principal_is_everybody() -> None:
    for scope in SCOPES:
        assert not make_principal("", "", frozenset((scope,))).trusts_request_user
    assert not Principal("", "", frozenset(SCOPES)).trusts_request_user
    with calling(current_principal.ANONYMOUS), pytest.raises(Unauthenticated):
        current_principal.current_principal()
