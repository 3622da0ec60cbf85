"""The principal of the current call, and the checks of what it may access; all services use these.

A context variable holds the principal for the call's task and the tasks that it
starts. While auth is off the principal is EVERYBODY. A call without a principal
is a defect and gets an error: a missing check must never grant access.
"""

from contextvars import ContextVar

from portico.core.auth.authenticator import missing
from portico.core.convert.requests import check_id
from portico.core.errors import PermissionDenied, RunNotFound
from portico.core.runs.run_engine import RunEngine
from portico.model.identity import TENANT_PREFIX, Principal, make_principal

# Principal of a call without a credential, where the method allows that; it owns nothing.
ANONYMOUS = make_principal("", "", frozenset())

_calling: ContextVar[Principal] = ContextVar("portico caller")


class PrincipalNotBound(RuntimeError):
    """No interceptor has set the call's principal: a defect of the core."""

    def __init__(self) -> None:
        super().__init__("the call has no principal: the interceptor that sets it is missing")


def bind_principal(who: Principal) -> None:
    """Sets the principal for the rest of this context and for tasks that start in it."""
    _calling.set(who)


def authenticated_principal() -> Principal:
    """The principal, possibly ANONYMOUS. Raises PrincipalNotBound."""
    who = _calling.get(None)
    if who is None:
        raise PrincipalNotBound
    return who


def current_principal_or_none() -> Principal | None:
    """The principal for logging; None for a call that was refused before it had one."""
    return _calling.get(None)


def is_anonymous() -> bool:
    """Whether auth is on and the call has no credential. Raises PrincipalNotBound."""
    return authenticated_principal() is ANONYMOUS


def current_principal() -> Principal:
    """The principal; EVERYBODY while auth is off. Raises Unauthenticated for ANONYMOUS, PrincipalNotBound."""
    who = authenticated_principal()
    if who is ANONYMOUS:
        raise missing()
    return who


def resolve_owner(user_id: str, field: str = "user_id", *, required: bool = True) -> str:
    """Owner key of the user that a request names; with auth on, of the caller if it names none.

    Raises InvalidArgument, Unauthenticated, PermissionDenied for another user who may not be named.
    """
    who = current_principal()
    if who.trusts_request_user:
        return check_id(user_id, field, required=required)
    if not user_id or user_id == who.user:
        return who.owner
    if "admin" in who.scopes and user_id.startswith(TENANT_PREFIX):
        return user_id
    if "act-as" in who.scopes:
        return Principal(who.tenant, check_id(user_id, field), who.scopes).owner
    raise PermissionDenied(f"{field}: is not the caller's user id; leave it out", field=field)


def session_owner(user_id: str, session_id: str) -> str:
    """Owner key of a session: the session's own id if auth is off and no user is named. Raises as
    owner_of."""
    return resolve_owner(user_id or (session_id if current_principal().trusts_request_user else ""))


def resolve_list_owner(user_id: str) -> str:
    """Owner key that a list is restricted to; empty for all owners, if an admin names no user.

    Raises as owner_of.
    """
    who = current_principal()
    if not user_id and "admin" in who.scopes:
        return ""
    return resolve_owner(user_id)


def is_visible(owner: str, *, reading: bool = False) -> bool:
    """Whether the caller may access the owner's data as its own. Raises Unauthenticated."""
    return current_principal().owns(owner, reading=reading)


async def check_run_access(engine: RunEngine, run_id: str, *, reading: bool = False) -> None:
    """Raises RunNotFound for another user's run, as for one that does not exist."""
    who = current_principal()
    if who.trusts_request_user:
        return
    live = engine.live(run_id)
    if live is not None and who.owns(live.start.owner, reading=reading):
        return
    # Both cases query the store, so their duration does not reveal which it was.
    if not who.owns(await engine.stored_owner(run_id), reading=reading):
        raise RunNotFound(run_id)


def required_scope(method: str) -> str:
    """The scope that a method requires, by the first word of its name."""
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
# Methods that a gateway calls to deliver push notifications.
_FOR_DELIVERY = ("GetRun", "WatchRun", "GetAgent", "ListAgents", "GetCaller")


def check_scope(who: Principal, method: str) -> None:
    """Raises PermissionDenied if the principal lacks the scope of the method."""
    scope = required_scope(method)
    if scope in who.scopes or (method in _FOR_DELIVERY and "deliver" in who.scopes):
        return
    raise PermissionDenied(f"the credential lacks the scope {scope}", scope=scope)
