"""Blocking forms of streams into a sandbox."""

from collections.abc import Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, Concatenate

from portico.client.sandboxes.cells import Cells
from portico.client.sandboxes.file_reader import FileReader
from portico.client.sandboxes.streams import PortConnection, Terminal
from portico.client.sync.blocking import Blocking, ClientLoopThread, P, ServiceT
from portico.v1 import sandbox_pb2


class BlockingTerminal:
    """A blocking Terminal. One thread may read while another writes."""

    def __init__(self, thread: ClientLoopThread, terminal: Terminal) -> None:
        self._thread = thread
        self._terminal = terminal

    def read(self) -> sandbox_pb2.OpenTerminalResponse | None:
        """As Terminal.read."""
        return self._thread.run(self._terminal.read())

    def write(self, data: bytes) -> None:
        """As Terminal.write."""
        self._thread.run(self._terminal.write(data))

    def resize(self, rows: int, columns: int) -> None:
        """As Terminal.resize."""
        self._thread.run(self._terminal.resize(rows, columns))

    def close(self) -> None:
        """As Terminal.close."""
        self._thread.run(self._terminal.close())

    def __iter__(self) -> Iterator[sandbox_pb2.OpenTerminalResponse]:
        while (item := self.read()) is not None:
            yield item

    def __enter__(self) -> "BlockingTerminal":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class BlockingPort:
    """A blocking PortConnection. One thread may read while another writes."""

    def __init__(self, thread: ClientLoopThread, connection: PortConnection) -> None:
        self._thread = thread
        self._connection = connection

    def read(self) -> bytes:
        """As PortConnection.read."""
        return self._thread.run(self._connection.read())

    def write(self, data: bytes) -> None:
        """As PortConnection.write."""
        self._thread.run(self._connection.write(data))

    def end_write(self) -> None:
        """As PortConnection.end_write."""
        self._thread.run(self._connection.end_write())

    def close(self) -> None:
        """As PortConnection.close."""
        self._thread.run(self._connection.close())

    def __enter__(self) -> "BlockingPort":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class BlockingFileReader:
    """A blocking FileReader."""

    def __init__(self, thread: ClientLoopThread, reader: FileReader) -> None:
        self._thread = thread
        self._reader = reader
        self.file, self.offset, self.length = reader.file, reader.offset, reader.length

    def read(self) -> bytes:
        """As FileReader.read."""
        return self._thread.run(self._reader.read())

    def close(self) -> None:
        """As FileReader.close."""
        self._thread.run(self._reader.close())

    def __iter__(self) -> Iterator[bytes]:
        while data := self.read():
            yield data

    def __enter__(self) -> "BlockingFileReader":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class BlockingCells:
    """Blocking Cells."""

    def __init__(self, thread: ClientLoopThread, cells: Cells) -> None:
        self._thread = thread
        self._cells = cells

    def sandbox(self) -> sandbox_pb2.Sandbox:
        """As Cells.sandbox."""
        return self._thread.run(self._cells.sandbox())

    def run(
        self, code: str, *, timeout: float | None = None, allow_input: bool = False
    ) -> Iterator[sandbox_pb2.RunCellResponse]:
        """As Cells.run."""
        return self._thread.iterate(self._cells.run(code, timeout=timeout, allow_input=allow_input))

    def answer(self, text: str | None) -> None:
        """As Cells.answer."""
        self._thread.run(self._cells.answer(text))

    def close(self) -> None:
        """As Cells.close."""
        self._thread.run(self._cells.close())

    def __enter__(self) -> "BlockingCells":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def blocking_cells(
    method: Callable[Concatenate[ServiceT, P], Cells],
) -> Callable[Concatenate[Blocking[ServiceT], P], BlockingCells]:
    """Returns the form of a method that returns blocking cells."""

    @wraps(method)
    def call(self: Blocking[ServiceT], /, *args: P.args, **kwargs: P.kwargs) -> BlockingCells:
        return BlockingCells(self.thread, method(self.service, *args, **kwargs))

    return call


def blocking_terminal(
    method: Callable[Concatenate[ServiceT, P], Coroutine[Any, Any, Terminal]],
) -> Callable[Concatenate[Blocking[ServiceT], P], BlockingTerminal]:
    """Returns the form of a method that returns a blocking terminal."""

    @wraps(method)
    def call(self: Blocking[ServiceT], /, *args: P.args, **kwargs: P.kwargs) -> BlockingTerminal:
        return BlockingTerminal(self.thread, self.thread.run(method(self.service, *args, **kwargs)))

    return call


def blocking_reader(
    method: Callable[Concatenate[ServiceT, P], Coroutine[Any, Any, FileReader]],
) -> Callable[Concatenate[Blocking[ServiceT], P], BlockingFileReader]:
    """Returns the form of a method that returns a blocking reader."""

    @wraps(method)
    def call(self: Blocking[ServiceT], /, *args: P.args, **kwargs: P.kwargs) -> BlockingFileReader:
        return BlockingFileReader(self.thread, self.thread.run(method(self.service, *args, **kwargs)))

    return call


def blocking_port(
    method: Callable[Concatenate[ServiceT, P], Coroutine[Any, Any, PortConnection]],
) -> Callable[Concatenate[Blocking[ServiceT], P], BlockingPort]:
    """Returns the form of a method that returns a blocking connection."""

    @wraps(method)
    def call(self: Blocking[ServiceT], /, *args: P.args, **kwargs: P.kwargs) -> BlockingPort:
        return BlockingPort(self.thread, self.thread.run(method(self.service, *args, **kwargs)))

    return call
