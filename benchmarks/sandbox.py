"""Sandboxes: the time to create, use and end them, and their memory. Portico only.

All figures except the library's go through gRPC to a core in another process.
"""

import asyncio
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import wraps
from operator import itemgetter
from statistics import median
from typing import Any, ParamSpec

import psutil

from benchmarks import core
from benchmarks.machine import STOLEN, Host
from benchmarks.requests import BrokenReply
from benchmarks.results import SandboxFigure, percentile
from portico.client import Client
from portico.sandbox import errors
from portico.sandbox.docker import images
from portico.sandbox.docker.settings import DockerSettings
from portico.sandbox.local.backend import LocalBackend
from portico.sandbox.spec import Spec
from portico.v1 import sandbox_pb2 as pb

WARM = 12  # runs that are not counted
PAUSE_SECONDS = 0.05  # between runs: an idle machine is slower at some operations, and this is included
SETTLE_SECONDS = 2
BURST = 50
POOL = 4  # waiting sandboxes
CHECKPOINTS = 15  # the limit of one kernel, less one
TREES = 5, 20  # processes that a kill must find, each with a child
PANDAS = "import pandas\nint(pandas.DataFrame({'a': range(4)})['a'].sum())"
ORPHANS = """
import subprocess
for _ in range({}):
    subprocess.Popen("trap '' TERM HUP; sleep 1000; true", shell=True, start_new_session=True)
"""
# Another sandbox, started beside each figure, shows the machine's speed for this kind of work.
YARDSTICK = (
    *("bwrap", "--unshare-all", "--uid", "1000", "--gid", "1000", "--proc", "/proc", "--dev", "/dev"),
    *("--tmpfs", "/tmp", "--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc"),
    *("--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"),
    "true",
)
YARDSTICKS = 40  # starts of it
TRIES = 3

P = ParamSpec("P")
Measured = Coroutine[Any, Any, list[SandboxFigure]]


def measure(runs: int, crowd: int) -> Iterator[SandboxFigure]:
    """Measures every figure over this many runs; `crowd` is the number of sandboxes that live at once."""
    refused = asyncio.run(_image())
    with core.running("--sandbox-pool-size", "0") as started:
        yield from asyncio.run(_one_by_one(started, runs))
    yield from asyncio.run(_first_rushes(-(-runs // BURST)))
    with core.running("--sandbox-pool-size", str(POOL)) as started:
        yield from asyncio.run(_warm(started, runs))
    yield from asyncio.run(_library(runs))
    if refused:
        print(f"docker: not measured: {refused}", file=sys.stderr)
    else:
        options = ("--sandbox-pool-size", "0", "--sandbox-backends", "docker")
        with core.running(*options) as started:
            yield from asyncio.run(_docker(started, runs))
    most = ("--sandbox-max", str(crowd), "--sandbox-per-user", str(crowd))
    with core.running("--sandbox-pool-size", "0", *most) as started:
        yield from asyncio.run(_crowd(started, crowd))


async def _one_by_one(started: core.Core, runs: int) -> list[SandboxFigure]:
    async with Client(started.target) as client:
        name, pandas = "create to first result", _spec(preload=["pandas"])
        return [
            *await _creates(client, name, runs),
            *await _cells(client, runs * 5),
            *await _creates(client, f"{name}, pandas", runs, pandas, PANDAS),
            *await _checkpoints(client, runs),
            *await _kills(client, runs, TREES[0]),
            *await _kills(client, runs, TREES[1]),
            *await _bursts(client, -(-runs // BURST)),
        ]


async def _image() -> str:
    """Builds the image of the containers; returns an empty text, or the reason for a failure."""
    try:
        await images.build(DockerSettings(), local_root=True)
    except errors.BackendUnavailable as error:
        return str(error)
    return ""


async def _docker(started: core.Core, runs: int) -> list[SandboxFigure]:
    async with Client(started.target) as client:
        name, spec = "create to first result, docker", _spec(backend="docker")
        return await _creates(client, name, runs, spec)


async def _warm(started: core.Core, runs: int) -> list[SandboxFigure]:
    async with Client(started.target) as client:
        name = "create to first result, warm pool"
        return [
            *await _creates(client, name, runs),
            *await _creates(client, f"{name}, {POOL} in a row", runs, row=POOL),
            *await _creates(client, f"{name}, a call each", runs // 2, calls=True),
            *await _touches(client, runs),
        ]


def _undisturbed(measure: Callable[P, Measured]) -> Callable[P, Measured]:
    """Returns the try with the least CPU time taken by the host; repeats while the host takes much."""

    @wraps(measure)
    async def tried(*args: P.args, **options: P.kwargs) -> list[SandboxFigure]:
        tries: list[tuple[float, list[SandboxFigure]]] = []
        while not tries or (len(tries) < TRIES and tries[-1][0] > STOLEN):
            host = Host()
            figures = await measure(*args, **options)
            tries.append((host.stolen(), figures))
        return min(tries, key=itemgetter(0))[1]

    return tried


@_undisturbed
async def _creates(
    client: Client,
    name: str,
    runs: int,
    spec: pb.SandboxSpec | None = None,
    code: str = "1 + 1",
    *,
    calls: bool = False,
    row: int = 1,
) -> list[SandboxFigure]:
    """Measures runs that create a sandbox, execute a cell and end the sandbox, over one stream or with a call
    each.

    There is a pause after each run, or after this many in a row.
    """
    times = []
    result = "2" if spec is None or not spec.preload else "6"
    for number in range(WARM + runs):
        began = time.perf_counter()
        if calls:
            sandbox_id = await _create(client, spec)
            await _run(client, sandbox_id, code, result)
            times.append(time.perf_counter() - began)
        else:
            async with client.sandboxes.cells(spec=spec, user_id="bench", fresh=True) as cells:
                await _check(cells.run(code), code, result)
                times.append(time.perf_counter() - began)
                sandbox_id = (await cells.sandbox()).sandbox_id
        await client.sandboxes.delete(sandbox_id)
        if number % row == row - 1:
            await asyncio.sleep(PAUSE_SECONDS * row)
    return [_figure(name, times[WARM:], PAUSE_SECONDS if row == 1 else 0)]


@_undisturbed
async def _touches(client: Client, runs: int) -> list[SandboxFigure]:
    """Measures a call without any work, after the same pauses."""
    sandbox_id, times = await _create(client), []
    for _ in range(WARM + runs):
        times.append(await _timed(client.sandboxes.touch(sandbox_id)))
        await asyncio.sleep(PAUSE_SECONDS)
    await client.sandboxes.delete(sandbox_id)
    return [_figure("a call that does nothing", times[WARM:], PAUSE_SECONDS)]


@_undisturbed
async def _cells(client: Client, runs: int) -> list[SandboxFigure]:
    """Measures cells over one stream, and with a call for each."""
    sandbox_id = await _create(client)
    calls = [await _timed(_run(client, sandbox_id, "1 + 1", "2")) for _ in range(WARM + runs)]
    async with client.sandboxes.cells(sandbox_id) as cells:
        stream = [await _timed(_check(cells.run("1 + 1"), "1 + 1", "2")) for _ in range(WARM + runs)]
    await client.sandboxes.delete(sandbox_id)
    name = "cell round trip"
    return [_figure(name, stream[WARM:]), _figure(f"{name}, a call each", calls[WARM:])]


@_undisturbed
async def _checkpoints(client: Client, runs: int) -> list[SandboxFigure]:
    """Measures checkpoints: each kernel keeps the maximum; after each a name changes and is restored."""
    taken: list[float] = []
    back: list[float] = []
    while len(taken) < runs:
        sandbox_id = await _create(client)
        await _run(client, sandbox_id, "x = 0\nx", "0")
        for name in map(str, range(CHECKPOINTS)):
            taken.append(await _timed(client.sandboxes.create_checkpoint(sandbox_id, name)))
            await _run(client, sandbox_id, "x += 1\nx", "1")
            back.append(await _timed(client.sandboxes.roll_back(sandbox_id, checkpoint=name)))
            await _run(client, sandbox_id, "x", "0")
        await client.sandboxes.delete(sandbox_id)
    return [_figure("checkpoint", taken), _figure("rollback", back)]


@_undisturbed
async def _kills(client: Client, runs: int, tree: int) -> list[SandboxFigure]:
    """Measures the end of a sandbox whose cell left processes that ignore signals; none may remain."""
    times = []
    for _ in range(WARM + runs):
        sandbox_id = await _create(client)
        await _run(client, sandbox_id, ORPHANS.format(tree))
        times.append(await _timed(client.sandboxes.delete(sandbox_id)))
    return [_figure(f"kill of {tree} orphans", times[WARM:])]


@_undisturbed
async def _bursts(client: Client, rounds: int) -> list[SandboxFigure]:
    """Measures bursts one after the other: some sandboxes of each wait because of the previous burst."""
    times = []
    for _ in range(1 + rounds):
        times += await _burst(client)
        await asyncio.sleep(SETTLE_SECONDS / 4)
    return [_figure(f"{BURST} creates at once", times[BURST:])]


@_undisturbed
async def _first_rushes(rounds: int) -> list[SandboxFigure]:
    """Measures the first burst of a core that has created one sandbox before."""
    times = []
    for _ in range(rounds):
        with core.running("--sandbox-pool-size", "0") as started:
            async with Client(started.target) as client:
                sandbox_id = await _create(client)
                await _run(client, sandbox_id, "1 + 1", "2")
                await client.sandboxes.delete(sandbox_id)
                await asyncio.sleep(SETTLE_SECONDS / 4)
                times += await _burst(client)
    return [_figure(f"{BURST} creates at once, the first rush", times)]


async def _burst(client: Client) -> list[float]:
    """Creates many sandboxes at once and executes a cell in each; returns the times since the start."""
    began = time.perf_counter()

    async def one() -> tuple[str, float]:
        async with client.sandboxes.cells(user_id="bench", fresh=True) as cells:
            await _check(cells.run("1 + 1"), "1 + 1", "2")
            took = time.perf_counter() - began
            return (await cells.sandbox()).sandbox_id, took

    made = await asyncio.gather(*(one() for _ in range(BURST)))
    await asyncio.gather(*(client.sandboxes.delete(sandbox_id) for sandbox_id, _ in made))
    return [seconds for _, seconds in made]


@_undisturbed
async def _library(runs: int) -> list[SandboxFigure]:
    """Measures the same without a server: the difference is the cost of gRPC."""
    made = []
    async with LocalBackend() as backend:
        for _ in range(WARM + runs):
            began = time.perf_counter()
            box = await backend.create(Spec())
            await box.run_cell("1 + 1")
            made.append(time.perf_counter() - began)
            await box.destroy()
            await asyncio.sleep(PAUSE_SECONDS)
        box = await backend.create(Spec())
        cells = [await _timed(box.run_cell("1 + 1")) for _ in range(WARM + runs * 5)]
    return [
        _figure("create to first result, library", made[WARM:], PAUSE_SECONDS),
        _figure("cell round trip, library", cells[WARM:]),
    ]


async def _crowd(started: core.Core, count: int) -> list[SandboxFigure]:
    """Measures many live sandboxes: their memory when idle, and the answer of each."""
    before = psutil.virtual_memory().available
    async with Client(started.target, timeout=120) as client, _quiet():
        turns = asyncio.Semaphore(8)
        made: list[str] = []

        async def one(number: int) -> None:
            async with turns:
                sandbox_id = await _create(client)
                await _run(client, sandbox_id, f"x = {number}\nx", str(number))
                made.append(sandbox_id)

        began = time.perf_counter()
        await one(0)
        idle = {process.pid for process in started.children()}
        await asyncio.gather(*(one(number) for number in range(1, count)))
        took = time.perf_counter() - began
        await asyncio.sleep(SETTLE_SECONDS)
        inside = [process for process in started.children() if process.pid not in idle]
        numbers = {process.pid for process in inside}
        # waiting sandboxes are among them
        sandboxes = sum(process.ppid() not in numbers for process in inside)
        shared = sum(process.memory_full_info().pss for process in inside) / 2**20 / sandboxes
        gone = (before - psutil.virtual_memory().available) / 2**20 / count
        answers = [await _timed(_run(client, sandbox_id, "x * 0", "0")) for sandbox_id in made]
    each = f"{count:,} idle sandboxes"
    return [
        SandboxFigure(name="PSS of an idle sandbox", unit="MiB", runs=sandboxes, median=shared, p99=None),
        SandboxFigure(name=f"{each}: memory of the machine, each", unit="MiB", runs=1, median=gone, p99=None),
        SandboxFigure(name=f"{each}: made, eight at a time, in", unit="s", runs=1, median=took, p99=None),
        _figure(f"{each}: an answer", answers),
    ]


@asynccontextmanager
async def _quiet() -> AsyncIterator[None]:
    """Raises the limit of descriptors to the number of processes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _spec(backend: str = "", preload: Sequence[str] = ()) -> pb.SandboxSpec:
    return pb.SandboxSpec(backend=backend, preload=preload)


async def _create(client: Client, spec: pb.SandboxSpec | None = None) -> str:
    return (await client.sandboxes.create(spec, user_id="bench", fresh=True)).sandbox_id


async def _run(client: Client, sandbox_id: str, code: str, expected: str = "") -> None:
    await _check(client.sandboxes.run_cell(sandbox_id, code), code, expected)


async def _check(events: AsyncIterator[pb.RunCellResponse], code: str, expected: str = "") -> None:
    """Checks a cell's events. Raises BrokenReply for a wrong result, whose speed means nothing."""
    result, ended = b"", False
    async for event in events:
        kind = event.WhichOneof("event")
        if kind == "rich":
            result = event.rich.data["text/plain"]
        elif kind == "end":
            ended = not event.end.HasField("failure") and not event.end.HasField("error")
    if not ended or (expected and result.decode() != expected):
        raise BrokenReply(f"{code!r} gave {result!r}")


async def _timed(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


def _figure(name: str, seconds: Sequence[float], pause: float = 0) -> SandboxFigure:
    """Builds a figure with a yardstick that is measured now, with the same pauses."""
    milliseconds = [one * 1e3 for one in seconds]
    return SandboxFigure(
        name=name,
        unit="ms",
        runs=len(milliseconds),
        median=median(milliseconds),
        least=min(milliseconds),
        p99=percentile(milliseconds, 99),
        yardstick=_yardstick(pause),
    )


def _yardstick(pause: float) -> float | None:
    """Returns the time of bubblewrap in ms; None without bubblewrap."""
    if shutil.which("bwrap") is None:
        return None
    times = []
    for _ in range(YARDSTICKS):
        began = time.perf_counter()
        subprocess.run(YARDSTICK, check=True)
        times.append(time.perf_counter() - began)
        time.sleep(pause)
    return median(times) * 1e3
