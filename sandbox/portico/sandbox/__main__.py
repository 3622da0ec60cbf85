"""Command line of sandboxes. `python -m portico.sandbox run CODE` runs one cell or shell command in a new
sandbox, without a server; `build` builds the image for sandboxes in containers.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Final, Self, TextIO

from portico.sandbox import errors
from portico.sandbox.backend_registry import OWN_NAMES, make_backend
from portico.sandbox.events import CellEnd, Lost, ProcessEnd, Rich, Stderr, Stdout
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.spec import MIB, Limits, NetworkPolicy, Spec
from portico.sandbox.terminal_text import Printable, printable

_RAISED: Final = 1  # exit statuses: code raised, invalid call, no sandbox available, ended by limit or signal
_WRONG: Final = 2
_UNAVAILABLE: Final = 3
_ENDED: Final = 124


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line. Returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return asyncio.run(_build(options) if options.command == "build" else _run(options))
    except errors.BackendUnavailable as error:
        _complain(f"portico sandbox: {error.message}")
        return _UNAVAILABLE
    except (errors.SandboxError, OSError) as error:
        _complain(f"portico sandbox: {error}")
        return _WRONG
    except KeyboardInterrupt:
        return 130


async def _run(options: argparse.Namespace) -> int:
    code: str = sys.stdin.read() if options.code == "-" else options.code
    limits = Limits(memory_bytes=options.memory * MIB, cpus=options.cpus, call_seconds=options.timeout)
    spec = Spec(limits=limits, network=NetworkPolicy(tuple(options.allow_host)))
    backend = make_backend(options.backend)
    await backend.open()
    if reason := backend.capabilities.missing.get("packages"):
        print(f"code cannot import the packages of this Python: {reason}", file=sys.stderr)
    try:
        box = await backend.create(spec)
        for name in options.file:
            path = Path(name)
            await box.files.upload(path.name, _pieces(path))
        with _Screen(raw=options.raw) as screen:
            return await (
                _shell(box, code, screen) if options.shell else _cell(box, code, screen, options.images)
            )
    finally:
        await backend.close()


async def _build(options: argparse.Namespace) -> int:
    from portico.sandbox.docker import images
    from portico.sandbox.docker.settings import DockerSettings

    settings = DockerSettings.from_environment()
    packages = tuple(options.package)
    name = await images.build(
        settings,
        base=options.base,
        packages=packages,
        local_root=options.local_root,
        plots=options.plots,
        say=_tell,
    )
    print(name)
    return 0


async def _cell(box: SandboxHandle, code: str, screen: "_Screen", images: str) -> int:
    shown = 0
    end = CellEnd()
    async with aclosing(box.stream_cell(code)) as events:
        async for event in events:
            if isinstance(event, CellEnd):
                end = event
            elif isinstance(event, Rich):
                for kind in ("image/png", "image/jpeg", "image/svg+xml"):
                    if kind in event.data and images:
                        shown += 1
                        suffix = kind.partition("/")[2].partition("+")[0]
                        path = Path(images) / f"image-{shown}.{suffix}"
                        await asyncio.to_thread(path.write_bytes, event.data[kind])
                        screen.out.write(f"[{path}]\n".encode())
                        break
                else:
                    screen.out.write(event.data.get("text/plain", b"") + b"\n")
            elif isinstance(event, Stdout | Stderr):
                (screen.error if isinstance(event, Stderr) else screen.out).write(event.data)
    if end.failure is not None:
        screen.error.write(f"{end.failure.reason}: {end.failure.message}\n".encode(errors="replace"))
        return _ENDED
    if end.error is not None:
        screen.error.write(f"{end.error.traceback}\n".encode(errors="replace"))
        return _RAISED
    return 0


async def _shell(box: SandboxHandle, command: str, screen: "_Screen") -> int:
    end = ProcessEnd(None)
    async with aclosing(box.stream_shell(command)) as events:
        async for event in events:
            if isinstance(event, ProcessEnd):
                end = event
            elif not isinstance(event, Lost):
                (screen.error if isinstance(event, Stderr) else screen.out).write(event.data)
    if end.failure is not None:
        screen.error.write(f"{end.failure.reason}: {end.failure.message}\n".encode(errors="replace"))
        return _ENDED
    status = end.exit_code
    return _ENDED if status is None else status if status >= 0 else 128 - status


class _Stream:
    """Standard output or error. Bytes pass unchanged, or on a terminal as text without control sequences."""

    def __init__(self, stream: TextIO, *, raw: bool) -> None:
        self._stream = stream
        self._shown = None if raw or not stream.isatty() else Printable()

    def write(self, data: bytes) -> None:
        self._put(data if self._shown is None else self._encoded(self._shown.feed(data)))

    def end(self) -> None:
        if self._shown is not None:
            self._put(self._encoded(self._shown.end()))

    def _encoded(self, text: str) -> bytes:
        return text.encode(self._stream.encoding, "backslashreplace")

    def _put(self, data: bytes) -> None:
        self._stream.buffer.write(data)
        self._stream.flush()


class _Screen:
    """Writes the output of the code to standard output and error."""

    def __init__(self, *, raw: bool) -> None:
        self.out = _Stream(sys.stdout, raw=raw)
        self.error = _Stream(sys.stderr, raw=raw)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.out.end()
        self.error.end()


def _tell(words: str) -> None:
    print(printable(words.encode(errors="backslashreplace")))


def _complain(words: str) -> None:
    print(printable(words.encode(errors="backslashreplace")), file=sys.stderr)


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file, _bar(path) as moved:
        while piece := await asyncio.to_thread(file.read, 1 << 20):
            yield piece
            moved(len(piece))


@contextmanager
def _bar(path: Path) -> Iterator[Callable[[int], object]]:
    """Shows a progress bar for an upload, if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        name = escape(printable(os.fsencode(path.name)))
        task = progress.add_task(name, total=path.stat().st_size)
        yield lambda count: progress.advance(task, count)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="portico sandbox", description="Run untrusted code without a server."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run Python code or a shell command in a new sandbox")
    run.add_argument("code", help="the code; - reads it from standard input")
    run.add_argument("--shell", action="store_true", help="Run CODE as a shell command.")
    run.add_argument("--timeout", type=float, default=60.0, help="Timeout in seconds. Default: 60.")
    run.add_argument("--memory", type=int, default=512, help="Memory limit in MiB. Default: 512.")
    run.add_argument("--cpus", type=float, default=1.0, help="Limit of CPUs. Default: 1.")
    run.add_argument(
        "--allow-host", action="append", default=[], metavar="HOST", help="Allow connections to this host."
    )
    run.add_argument("--file", action="append", default=[], help="Copy this file into the workspace first.")
    run.add_argument("--images", default="", metavar="DIR", help="Save displayed images in this directory.")
    run.add_argument(
        "--raw",
        action="store_true",
        help="Write output to the terminal unchanged, with all control sequences.",
    )
    run.add_argument(
        "--backend",
        default="local",
        help=f"One of {', '.join(OWN_NAMES)}, or one of another package. Default: local.",
    )
    build = commands.add_parser("build", help="build the image of the docker backend")
    build.add_argument("--base", default="", help="Base image. Default: Debian with Python.")
    build.add_argument(
        "--local-root",
        action="store_true",
        help="Copy this machine's Python and commands into the image, without a registry.",
    )
    build.add_argument(
        "--plots",
        action=argparse.BooleanOptionalAction,
        help="Install matplotlib from PyPI, and fonts for Chinese, Japanese and Korean from Debian. "
        "Default: only on the default base.",
    )
    build.add_argument("--package", action="append", default=[], help="Install this Python package.")
    return parser


if __name__ == "__main__":
    sys.exit(main())
