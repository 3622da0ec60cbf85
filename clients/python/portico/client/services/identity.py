"""IdentityService: the calling principal, and the API keys of a core."""

from collections.abc import Iterable
from datetime import datetime

from portico.client.paging import Listing, listing
from portico.client.service import Service
from portico.v1 import identity_pb2


class Identity(Service):
    """The principal and API keys. Every method raises PorticoError."""

    async def caller(self) -> identity_pb2.Principal | None:
        """Returns the principal of this client's credential; None when the core checks none. Raises
        Unauthenticated.
        """
        method = self._calls.connection.identity.GetCaller
        response = await self._calls.unary(method, identity_pb2.GetCallerRequest())
        return response.principal if response.HasField("principal") else None

    async def create_key(
        self,
        *,
        user_id: str,
        tenant: str = "",
        scopes: Iterable[str] = (),
        name: str = "",
        expires: datetime | None = None,
    ) -> tuple[identity_pb2.ApiKey, str]:
        """Creates a key; returns it with its credential, which cannot be retrieved later. Requires the
        scope admin.
        """
        request = identity_pb2.CreateKeyRequest(
            principal=identity_pb2.Principal(tenant=tenant, user_id=user_id, scopes=scopes), name=name
        )
        if expires is not None:
            request.expire_time.FromDatetime(expires)
        response = await self._calls.unary(self._calls.connection.identity.CreateKey, request)
        return response.key, response.credential

    def list_keys(
        self, *, page_size: int = 0, page_token: str = ""
    ) -> Listing[identity_pb2.ListKeysResponse, identity_pb2.ApiKey]:
        """Lists all keys, newest first. Requires the scope admin."""
        request = identity_pb2.ListKeysRequest(page_size=page_size, page_token=page_token)
        return listing(
            self._calls, lambda: self._calls.connection.identity.ListKeys, request, lambda page: page.keys
        )

    async def revoke_key(self, key_id: str) -> identity_pb2.ApiKey:
        """Revokes a key; does nothing when repeated. Requires the scope admin. Raises NotFound."""
        request = identity_pb2.RevokeKeyRequest(key_id=key_id)
        return (await self._calls.unary(self._calls.connection.identity.RevokeKey, request)).key

    async def forget_user(
        self, user_id: str | None = None, *, timeout: float = 600.0
    ) -> identity_pb2.ForgetUserResponse:
        """Removes all data of a user, by default of the caller; returns the amounts.

        This may take long, so it has a timeout of its own, in seconds. Raises PermissionDenied,
        Unavailable.
        """
        method = self._calls.connection.identity.ForgetUser
        request = identity_pb2.ForgetUserRequest(user_id=user_id or "")
        return await self._calls.varied(None, None, timeout).unary(method, request)
