"""Pagination: page sizes, and opaque tokens with the position of the next page."""

import base64

import orjson

from portico.core.errors import InvalidArgument

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 200


def page_size(asked: int) -> int:
    """The page size to use for a requested one. Raises InvalidArgument if it is negative."""
    if asked < 0:
        raise InvalidArgument("page_size", "must not be negative")
    return min(asked or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


def encode_token(*place: str | float) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")


def decode_token(token: str, *types: type) -> tuple[object, ...] | None:
    """Values in a page token; None for an empty token. Raises InvalidArgument for a malformed one."""
    if not token:
        return None
    try:
        place = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except ValueError:
        place = None
    if (
        not isinstance(place, list)
        or len(place) != len(types)
        or not all(
            isinstance(value, kind) and value is not True for value, kind in zip(place, types, strict=True)
        )
    ):
        raise InvalidArgument("page_token", "is not a next_page_token of this method")
    if any(isinstance(value, int) and abs(value) >= 2**63 for value in place):
        raise InvalidArgument("page_token", "is not a next_page_token of this method")
    return tuple(place)
