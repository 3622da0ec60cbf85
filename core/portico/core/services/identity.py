"""IdentityService: the caller's principal, API keys, and the deletion of a user's data."""

from dataclasses import asdict

from grpc.aio import ServicerContext

from portico.core.auth.api_keys import ApiKeyRegistry
from portico.core.convert.requests import check_id
from portico.core.convert.timestamps import seconds, timestamp
from portico.core.lifecycle.forget_user import UserEraser
from portico.core.services.rpc.current_principal import current_principal, resolve_owner
from portico.core.services.rpc.page_tokens import decode_token, encode_token, page_size
from portico.core.stores.ports.api_keys import KeyRecord
from portico.model.identity import Principal, tenant_of, user_of
from portico.v1 import identity_pb2 as pb


class IdentityService:
    """Serves principals and API keys of one core."""

    def __init__(self, keys: ApiKeyRegistry, forgetting: UserEraser) -> None:
        self._keys = keys
        self._forgetting = forgetting

    async def GetCaller(self, request: pb.GetCallerRequest, context: ServicerContext) -> pb.GetCallerResponse:
        who = current_principal()
        return pb.GetCallerResponse(principal=None if who.trusts_request_user else _principal(who))

    async def CreateKey(self, request: pb.CreateKeyRequest, context: ServicerContext) -> pb.CreateKeyResponse:
        wanted = request.principal
        expires_at = seconds(request.expire_time) if request.HasField("expire_time") else None
        record, credential = await self._keys.create(
            wanted.tenant, wanted.user_id, wanted.scopes, request.name, expires_at
        )
        return pb.CreateKeyResponse(key=_key(record), credential=credential)

    async def ListKeys(self, request: pb.ListKeysRequest, context: ServicerContext) -> pb.ListKeysResponse:
        size = page_size(request.page_size)
        rows = self._keys.listed()
        place = decode_token(request.page_token, float, str)
        if place is not None:
            before = (float(str(place[0])), str(place[1]))
            rows = [row for row in rows if (row.created_at, row.key_id) < before]
        token = encode_token(rows[size - 1].created_at, rows[size - 1].key_id) if len(rows) > size else ""
        return pb.ListKeysResponse(keys=[_key(row) for row in rows[:size]], next_page_token=token)

    async def RevokeKey(self, request: pb.RevokeKeyRequest, context: ServicerContext) -> pb.RevokeKeyResponse:
        record = await self._keys.revoke(check_id(request.key_id, "key_id"))
        return pb.RevokeKeyResponse(key=_key(record))

    async def ForgetUser(
        self, request: pb.ForgetUserRequest, context: ServicerContext
    ) -> pb.ForgetUserResponse:
        owner = resolve_owner(request.user_id)
        told = await self._forgetting.delete_everything(owner)
        # Keys are deleted last: after a failed call the user must be able to repeat it.
        keys = await self._keys.forget(tenant_of(owner), user_of(owner))
        await self._forgetting.erase_from_files()
        return pb.ForgetUserResponse(**asdict(told), keys=keys)


def _principal(who: Principal) -> pb.Principal:
    return pb.Principal(tenant=who.tenant, user_id=who.user, scopes=sorted(who.scopes))


def _key(record: KeyRecord) -> pb.ApiKey:
    return pb.ApiKey(
        key_id=record.key_id,
        name=record.name,
        principal=pb.Principal(tenant=record.tenant, user_id=record.user_id, scopes=record.scopes.split()),
        created_time=timestamp(record.created_at),
        expire_time=None if record.expires_at is None else timestamp(record.expires_at),
        revoked_time=None if record.revoked_at is None else timestamp(record.revoked_at),
    )
