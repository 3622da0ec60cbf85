"""Who calls, for the methods of the services: the one place that decides what is whose.

A call's principal is in a context variable, which its own task and those that
it starts have. While auth is off it is EVERYBODY. A call without a principal is
a defect and answers with an error: nobody is believed because a check is missing.
"""

from contextvars import ContextVar

from portico.core.auth.authenticator import missing
from portico.core.convert.requests import check_id
from portico.core.errors import PermissionDenied, RunNotFound
from portico.core.runs.run_engine import RunEngine
from portico.model.identity import TENANT_PREFIX, Principal, principal

# Of a call that brings no credential, where that is allowed: nothing is its own.
ANONYMOUS = principal("", "", frozenset())

_calling: ContextVar[Principal] = ContextVar("portico caller")


class NoPrincipal(RuntimeError):
    """Nothing has found out who calls: a defect of the core."""

    def __init__(self) -> None:
        super().__init__("the call has no principal: the interceptor that sets it is missing")


def call_as(who: Principal) -> None:
    """For the rest of this context, and in tasks that begin in it."""
    _calling.set(who)


def admitted() -> Principal:
    """The caller as it is, ANONYMOUS included. Raises NoPrincipal."""
    who = _calling.get(None)
    if who is None:
        raise NoPrincipal
    return who


def who_calls() -> Principal | None:
    """The same for those who only write it down; None for a call that was refused before it had one."""
    return _calling.get(None)


def anonymous() -> bool:
    """Whether there should be a credential and is none. Raises NoPrincipal."""
    return admitted() is ANONYMOUS


def caller() -> Principal:
    """EVERYBODY while auth is off. Raises Unauthenticated, NoPrincipal."""
    who = admitted()
    if who is ANONYMOUS:
        raise missing()
    return who


def owner_of(user_id: str, field: str = "user_id", *, required: bool = True) -> str:
    """The owner that a request is about: with auth on the caller, whether it says so or nothing.

    Raises InvalidArgument, Unauthenticated, PermissionDenied for another user who may not be named.
    """
    who = caller()
    if who.believed:
        return check_id(user_id, field, required=required)
    if not user_id or user_id == who.user:
        return who.owner
    if "admin" in who.allowed and user_id.startswith(TENANT_PREFIX):
        return user_id
    if "act-as" in who.allowed:
        return Principal(who.tenant, check_id(user_id, field), who.allowed).owner
    raise PermissionDenied(f"{field}: is not the caller's; leave it out", field=field)


def session_owner(user_id: str, session_id: str) -> str:
    """Whose a session is: its own, when auth is off and nobody is named. Raises as owner_of."""
    return owner_of(user_id or (session_id if caller().believed else ""))


def listed_owner(user_id: str) -> str:
    """Whose a list may have; empty for everybody's, which an operator gets who names nobody.

    Raises as owner_of.
    """
    who = caller()
    if not user_id and "admin" in who.allowed:
        return ""
    return owner_of(user_id)


def is_own(owner: str, *, reading: bool = False) -> bool:
    """Whether the caller may do with the owner's what it may do with its own. Raises Unauthenticated."""
    return caller().owns(owner, reading=reading)


async def check_run(engine: RunEngine, run_id: str, *, reading: bool = False) -> None:
    """Raises RunNotFound for a run that is not the caller's, as for one that there is not."""
    who = caller()
    if who.believed:
        return
    live = engine.live(run_id)
    if live is not None and who.owns(live.start.owner, reading=reading):
        return
    # Another's takes as long as one that there is not: both ask the store.
    if not who.owns(await engine.stored_owner(run_id), reading=reading):
        raise RunNotFound(run_id)


def scope_of(method: str) -> str:
    """The scope that a method needs, by the first word of its name."""
    if method in _SCOPES:
        return _SCOPES[method]
    return "read" if method.startswith(_READING) else "use"


_READING = ("Get", "List", "Search", "Watch", "Read", "Stat")
_SCOPES = {
    "AckPush": "deliver",
    "ClaimPushes": "deliver",
    "CreateKey": "admin",
    "ListKeys": "admin",
    "RevokeKey": "admin",
}
# What a gateway that delivers must look at.
_FOR_DELIVERY = ("GetRun", "WatchRun", "GetAgent", "ListAgents", "GetCaller")


def check_scope(who: Principal, method: str) -> None:
    """Raises PermissionDenied."""
    scope = scope_of(method)
    if scope in who.allowed or (method in _FOR_DELIVERY and "deliver" in who.allowed):
        return
    raise PermissionDenied(f"the credential lacks the scope {scope}", scope=scope)
