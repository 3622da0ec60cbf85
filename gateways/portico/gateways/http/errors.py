"""Errors for requests that the gateway refuses itself, and HTTP statuses for the core's errors."""

import math
from collections.abc import Mapping

import grpc

HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.OUT_OF_RANGE: 416,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
CHALLENGE = {"www-authenticate": 'Bearer realm="portico"'}  # header of every 401
RETRY_SECONDS = {429: "1", 503: "1"}  # retry-after in seconds, by status


def retry_after(metadata: Mapping[str, str]) -> dict[str, str]:
    """Returns the retry-after header, in whole seconds, if the core's error says when to retry."""
    try:
        seconds = float(metadata.get("retry_after_seconds", ""))
    except ValueError:
        return {}
    return {"retry-after": str(max(math.ceil(seconds), 1))}


class BadRequest(Exception):
    """The gateway refuses a request without asking the core; `field` is the path of the invalid value."""

    def __init__(
        self, message: str, *, status: int = 422, field: str = "", code: str = "INVALID_ARGUMENT"
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.field = field
        self.code = code
