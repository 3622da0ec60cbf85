"""Access to the Docker engine by docker-py: runs its blocking calls on threads and translates its errors."""

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

import docker.errors
import requests
from docker.api.client import APIClient
from docker.utils.utils import kwargs_from_env

from portico.sandbox import errors

T = TypeVar("T")
_TIMEOUT: Final = 60.0  # seconds for an answer of the engine
_THREADS: Final = 16
_DEFAULT_URL: Final = "unix:///var/run/docker.sock"


class NotFoundInEngine(errors.BackendUnavailable):
    """No such container or image."""


class Engine:
    """A connection to one engine. The user closes it."""

    def __init__(self, url: str = "") -> None:
        self._url = url
        self._threads = ThreadPoolExecutor(_THREADS, "portico-docker")
        self._api: Any = None

    async def open(self) -> dict[str, Any]:
        """Connects and returns the engine's information. Raises BackendUnavailable."""
        return await self._run(self._connect)

    def _connect(self) -> dict[str, Any]:
        where = {"base_url": self._url} if self._url else kwargs_from_env()  # type: ignore[no-untyped-call]
        url = where.get("base_url") or _DEFAULT_URL
        if url.startswith("unix://"):
            with socket.socket(socket.AF_UNIX) as probe:  # docker-py leaks the socket if it cannot connect
                probe.connect(url.removeprefix("unix://"))
        self._api = APIClient(version="auto", timeout=_TIMEOUT, **where)  # type: ignore[no-untyped-call]
        info: dict[str, Any] = self._api.info()
        return info

    async def close(self) -> None:
        """Closes the connection, after running calls have ended."""
        if self._api is not None:
            self._api.close()
        await asyncio.to_thread(self._threads.shutdown)

    async def image(self, name: str) -> dict[str, Any] | None:
        """Returns the attributes of an image; None if the engine does not have it."""
        try:
            found: dict[str, Any] = await self.call("inspect_image", name)
            return found
        except NotFoundInEngine:
            return None

    async def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Calls a method of docker-py's APIClient. Raises NotFoundInEngine, BackendUnavailable."""
        return await self._run(partial(getattr(self._api, method), *arguments, **named))

    async def remove(self, container: str) -> None:
        """Kills and removes a container; succeeds also if it is gone or is being removed."""
        try:
            await self.call("remove_container", container, v=True, force=True)
        except NotFoundInEngine:
            pass
        except errors.BackendUnavailable as error:
            if "already in progress" not in error.message:
                raise

    async def attach(self, container: str) -> socket.socket:
        """Returns a socket for a container's standard streams, before its start. The caller closes it."""
        return await self._run(partial(self._attach, container))

    def _attach(self, container: str) -> socket.socket:
        wrapped = self._api.attach_socket(container, {"stdin": 1, "stdout": 1, "stream": 1})
        try:
            plain = getattr(wrapped, "_sock", wrapped)
            if type(plain) is not socket.socket:
                raise errors.BackendUnavailable(
                    "the engine is not reached by a plain socket: use unix:// or tcp://"
                )
            return socket.socket(fileno=plain.detach())
        finally:
            wrapped._response.close()
            wrapped.close()

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, partial(_named, work))
        except RuntimeError as error:  # the thread pool is shut down
            raise errors.BackendUnavailable("the docker backend is closed") from error


def _named(work: Callable[[], T]) -> T:
    try:
        return work()
    except docker.errors.NotFound as error:
        raise NotFoundInEngine(_said(error)) from error
    except docker.errors.DockerException as error:
        raise errors.BackendUnavailable(f"the Docker engine: {_said(error)}") from error
    except (requests.RequestException, OSError) as error:
        raise errors.BackendUnavailable(f"the Docker engine does not answer: {error}") from error


def _said(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error)
