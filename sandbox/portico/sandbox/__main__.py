"""`python -m portico.sandbox run CODE`: one cell or command in a sandbox of its own, with no server; and
`build`: the image for sandboxes in containers."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final

from portico.sandbox import errors
from portico.sandbox.box import Box
from portico.sandbox.choice import make_backend
from portico.sandbox.events import CellEnd, Lost, ProcessEnd, Rich, Stderr
from portico.sandbox.spec import MIB, Limits, NetworkPolicy, Spec

_RAISED: Final = 1  # exit statuses: the code raised, the call was wrong, there is no sandbox, it was ended
_WRONG: Final = 2
_UNAVAILABLE: Final = 3
_ENDED: Final = 124


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return asyncio.run(_build(options) if options.command == "build" else _run(options))
    except errors.BackendUnavailable as error:
        print(f"portico sandbox: {error.message}", file=sys.stderr)
        return _UNAVAILABLE
    except (errors.SandboxError, OSError) as error:
        print(f"portico sandbox: {error}", file=sys.stderr)
        return _WRONG
    except KeyboardInterrupt:
        return 130


async def _run(options: argparse.Namespace) -> int:
    code: str = sys.stdin.read() if options.code == "-" else options.code
    limits = Limits(memory_bytes=options.memory * MIB, cpus=options.cpus, call_seconds=options.timeout)
    spec = Spec(limits=limits, network=NetworkPolicy(tuple(options.allow_host)))
    backend = make_backend(options.backend)
    await backend.open()
    try:
        box = await backend.create(spec)
        for name in options.file:
            path = Path(name)
            await box.files.upload(path.name, _pieces(path))
        return await (_shell(box, code) if options.shell else _cell(box, code, options.images))
    finally:
        await backend.close()


async def _build(options: argparse.Namespace) -> int:
    from portico.sandbox.docker import images
    from portico.sandbox.docker.settings import DockerSettings

    settings = DockerSettings.from_environment()
    packages = tuple(options.package)
    name = await images.build(
        settings, base=options.base, packages=packages, local_root=options.local_root, say=print
    )
    print(name)
    return 0


async def _cell(box: Box, code: str, images: str) -> int:
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
                        print(f"[{path}]")
                        break
                else:
                    print(event.data.get("text/plain", b"").decode(errors="replace"))
            else:
                _say(event.data, to_error=isinstance(event, Stderr))
    if end.failure is not None:
        print(f"{end.failure.reason}: {end.failure.message}", file=sys.stderr)
        return _ENDED
    if end.error is not None:
        print(end.error.traceback, file=sys.stderr)
        return _RAISED
    return 0


async def _shell(box: Box, command: str) -> int:
    end = ProcessEnd(None)
    async with aclosing(box.stream_shell(command)) as events:
        async for event in events:
            if isinstance(event, ProcessEnd):
                end = event
            elif not isinstance(event, Lost):
                _say(event.data, to_error=isinstance(event, Stderr))
    if end.failure is not None:
        print(f"{end.failure.reason}: {end.failure.message}", file=sys.stderr)
        return _ENDED
    status = end.exit_code
    return _ENDED if status is None else status if status >= 0 else 128 - status


def _say(data: bytes, *, to_error: bool) -> None:
    stream = sys.stderr if to_error else sys.stdout
    stream.buffer.write(data)
    stream.flush()


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while piece := await asyncio.to_thread(file.read, 1 << 20):
            yield piece


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="portico sandbox", description="Untrusted code, with no server.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run Python, or a shell command, in a sandbox of its own")
    run.add_argument("code", help="the code; - reads it from standard input")
    run.add_argument("--shell", action="store_true", help="It is a shell command.")
    run.add_argument("--timeout", type=float, default=60.0, help="Seconds. Default: 60.")
    run.add_argument("--memory", type=int, default=512, help="MiB. Default: 512.")
    run.add_argument("--cpus", type=float, default=1.0, help="Default: 1.")
    run.add_argument(
        "--allow-host", action="append", default=[], metavar="HOST", help="A host that may be reached."
    )
    run.add_argument("--file", action="append", default=[], help="Copy a file into the workspace before.")
    run.add_argument("--images", default="", metavar="DIR", help="Where to save images that are shown.")
    run.add_argument(
        "--backend", default="local", help="Where: local, docker, docker:RUNTIME. Default: local."
    )
    build = commands.add_parser("build", help="build the image of the docker backend")
    build.add_argument("--base", default="", help="The image to build on. Default: Debian with Python.")
    build.add_argument(
        "--local-root",
        action="store_true",
        help="Build on this machine's Python and commands, without a registry.",
    )
    build.add_argument("--package", action="append", default=[], help="A Python package to have in it.")
    return parser


if __name__ == "__main__":
    sys.exit(main())
