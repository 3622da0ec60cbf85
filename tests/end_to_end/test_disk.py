"""The disk under the log: full, slow to come back, read-only, damaged."""

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.deployment import READY_SECONDS, SCRIPTED, Deployment, ask, free_port
from support.isolated_command import unshared

from portico.client import Client
from portico.client.errors import Unavailable
from portico.core.stores.open_stores import open_stores
from portico.v1 import events_pb2

MEGABYTE = 1024 * 1024
EXPIRING = Path(__file__).parents[1] / "support" / "expiring_data.py"
DISK = "mount -t tmpfs -o size=80m none {data} && exec {command}"


def mounting() -> list[str]:
    """Returns the prefix of a command that gets its own mount table."""
    return [*unshared("--mount", "--propagation", "private"), "sh", "-c"]


class SmallDisk(Deployment):
    """A deployment whose data is on a private file system of 80 MB."""

    def __init__(self, directory: Path) -> None:
        data = directory / "data"
        data.mkdir()
        ports = free_port(), free_port()
        run = [sys.executable, "-m", "portico.cli", "run", str(SCRIPTED), "--data-dir", str(data)]
        run += ["--port", str(ports[0]), "--grpc-port", str(ports[1])]
        super().__init__(
            SCRIPTED,
            directory,
            command=[*mounting(), DISK.format(data=data, command=" ".join(run))],
            ports=ports,
        )
        self.filler = Path(f"/proc/{self.process.pid}/root{data}/filler")

    def fill(self) -> None:
        with contextlib.suppress(OSError), self.filler.open("ab", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)

    def free(self) -> None:
        self.filler.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    assert shutil.which("unshare"), "unshare is missing (util-linux)"
    started = SmallDisk(tmp_path)
    yield started
    started.stop()


async def test_a_full_disk_refuses_runs_keeps_reading_and_loses_nothing(small_disk: SmallDisk) -> None:
    core = small_disk.child("portico.core")
    async with (
        Client(small_disk.target) as client,
        httpx.AsyncClient(base_url=small_disk.url, timeout=60) as http,
    ):
        before = await client.runs.start("count 3")
        seen = [event async for event in client.runs.watch(before.response.id)]
        under_way = await client.runs.start("count 400 10")
        small_disk.fill()
        with pytest.raises(Unavailable, match="disk is full") as caught:
            # Larger than the space that the log's file has allocated.
            await client.runs.start("count 3 " + "x" * 8_000_000)
        assert caught.value.reason == "STORE_UNAVAILABLE"
        refused = await http.post("/process", json=ask("count 3", stream=False))
        while refused.status_code == 200:
            # The log's file had space for it, which was just truncated.
            small_disk.fill()
            refused = await http.post("/process", json=ask("count 3", stream=False))
        assert refused.status_code == 503
        assert "disk is full" in refused.text
        small_disk.fill()
        # Stored data is readable.
        assert [event async for event in client.runs.watch(before.response.id)] == seen
        assert (await http.get(f"/runs/{before.response.id}")).status_code == 200
        small_disk.free()
        events = [event async for event in client.runs.watch(under_way.response.id)]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert events[-1].response.status == events_pb2.RUN_STATUS_COMPLETED
        assert events[-1].response.output[0].content[0].text == "".join(f"{n} " for n in range(400))
        after = await client.runs.query("count 3").text()
        assert after == "0 1 2 "
    assert core.is_running()


async def ready(http: httpx.AsyncClient, status: int) -> None:
    """Returns when readiness has this status."""
    async with asyncio.timeout(60):
        while (await http.get("/readiness")).status_code != status:
            await asyncio.sleep(0.1)


async def test_deletes_on_a_full_disk_make_room(small_disk: SmallDisk) -> None:
    async with (
        Client(small_disk.target) as client,
        httpx.AsyncClient(base_url=small_disk.url, timeout=60) as http,
    ):

        async def deleted(path: str, **query: str) -> None:
            answer = await http.delete(path, params=query)
            assert answer.status_code in (200, 204), answer.text

        runs = []
        for number in range(40):
            text = await client.runs.start(f"echo {'x' * 100_000}", user_id="ada", session_id=f"s{number}")
            runs.append(text.response.id)
        await client.runs.start("echo " + "y" * 100_000, user_id="bob", session_id="bobs")
        for number in range(20):
            await client.states.save({"a": "b" * 20_000}, user_id="ada", session_id=f"s{number}")
            await client.memories.add(["m" * 20_000], user_id="ada")
        small_disk.fill()
        refused = await http.post("/runs", json=ask("echo " + "z" * 100_000))
        while refused.status_code == 201:
            # The log's file had space for it.
            small_disk.fill()
            refused = await http.post("/runs", json=ask("echo " + "z" * 100_000))
        assert (refused.status_code, "disk is full" in refused.text) == (503, True)
        await ready(http, 503)
        # A core that starts on a full disk can also free space.
        small_disk.kill("portico.core")
        async with asyncio.timeout(60):
            while (await http.get(f"/runs/{runs[0]}")).status_code != 200:
                await asyncio.sleep(0.1)
        for run in runs[:20]:
            small_disk.fill()
            await deleted(f"/runs/{run}")
        for number in range(20):
            await deleted(f"/sessions/ada/s{number}")
        small_disk.fill()
        await deleted("/memories", user_id="ada")
        await deleted("/states/ada")
        await deleted("/users/ada")
        listed = (await http.get("/runs", params={"user_id": "ada"})).json()
        assert listed["runs"] == []
        await ready(http, 200)
        assert await client.runs.query("echo " + "z" * 100_000).text() == "z" * 100_000
        assert [run.response.session_id async for run in client.runs.list(user_id="bob")] == ["bobs"]


def test_retention_frees_a_disk_that_is_a_little_larger_than_the_data(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    command = f"mount -t tmpfs -o size=52m none {data} && exec {sys.executable} {EXPIRING} {data}"
    done = subprocess.run([*mounting(), command], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    sizes = json.loads(done.stdout.splitlines()[-1])
    assert sizes["left"] == 0
    assert sizes["before"] > 32 * MEGABYTE
    assert sizes["after"] < sizes["before"] / 2


def doctor(data: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "portico.cli", "doctor", "--data-dir", str(data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def core(data: Path) -> subprocess.CompletedProcess[str]:
    """Runs a core that must refuse to start."""
    command = [sys.executable, "-m", "portico.core", str(SCRIPTED), f"--store=sqlite:///{data}/portico.db"]
    command += [f"--listen=unix:{data}/core.sock"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


async def test_the_doctor_finds_a_whole_database_beside_a_running_core(deployment: Deployment) -> None:
    async with Client(deployment.target) as client:
        assert await client.runs.query("count 2").text() == "0 1 "
    report = await asyncio.to_thread(doctor, deployment.directory)
    assert report.returncode == 0, report.stdout
    assert "portico.db is intact" in report.stdout
    assert "has all its events exactly once" in report.stdout


def test_a_damaged_database_is_refused_and_the_doctor_says_what_to_do(tmp_path: Path) -> None:
    stores = asyncio.run(open_stores(f"sqlite:///{tmp_path}/portico.db"))
    asyncio.run(stores.close())
    database = tmp_path / "portico.db"
    content = bytearray(database.read_bytes())
    content[4096 : 4096 * 3] = b"\xee" * 8192
    database.write_bytes(content)
    refused = core(tmp_path)
    assert refused.returncode == 1
    assert "the database is damaged" in refused.stderr
    assert "portico doctor" in refused.stderr
    assert "Traceback" not in refused.stderr
    report = doctor(tmp_path)
    assert report.returncode == 1
    assert "problem" in report.stdout
    assert "restore a backup" in report.stdout


@contextlib.contextmanager
def running_core(data: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a core on `core.sock` and kills it at the end."""
    command = [sys.executable, "-m", "portico.core", str(SCRIPTED), f"--store=sqlite:///{data}/portico.db"]
    with subprocess.Popen([*command, f"--listen=unix:{data}/core.sock"]) as process:
        try:
            until = time.monotonic() + READY_SECONDS
            with socket.socket(socket.AF_UNIX) as listening:
                while listening.connect_ex(str(data / "core.sock")):
                    assert process.poll() is None, "the core has ended"
                    assert time.monotonic() < until, "the core does not listen"
                    time.sleep(0.05)
            yield process
        finally:
            process.kill()


async def say(data: Path, session_id: str, count: int) -> None:
    async with Client(f"unix:{data}/core.sock") as client:
        for _ in range(count):
            assert await client.runs.query("count 2", session_id=session_id, user_id="ada").text() == "0 1 "


async def runs(data: Path) -> int:
    async with Client(f"unix:{data}/core.sock") as client:
        return len([run async for run in client.runs.list()])


def damage(log: Path) -> None:
    """Changes some bytes in the middle."""
    content = bytearray(log.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 100] = b"\xee" * 100
    log.write_bytes(content)


async def test_a_core_misses_commits_that_are_lost_at_the_end_of_its_log(tmp_path: Path) -> None:
    with running_core(tmp_path):
        await say(tmp_path, "s1", 20)
    whole = await asyncio.to_thread(doctor, tmp_path)
    assert whole.returncode == 0, whole.stdout
    with running_core(tmp_path):
        assert await runs(tmp_path) == 20
        await say(tmp_path, "s2", 20)
    await asyncio.to_thread(damage, tmp_path / "portico.db-wal")
    refused = await asyncio.to_thread(core, tmp_path)
    assert refused.returncode == 1
    assert "portico.db-wal is damaged after frame" in refused.stderr
    assert "remove portico.db-shm" in refused.stderr
    assert "Traceback" not in refused.stderr
    for _ in range(2):  # a check changes nothing
        report = await asyncio.to_thread(doctor, tmp_path)
        assert report.returncode == 1
        assert "portico.db-wal is damaged after frame" in report.stdout
    (tmp_path / "portico.db-shm").unlink()
    with running_core(tmp_path):
        assert 20 <= await runs(tmp_path) < 40
        await say(tmp_path, "s3", 1)
    assert (await asyncio.to_thread(doctor, tmp_path)).returncode == 0


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "portico.db").write_bytes(b"hello " * 1000)
    refused = core(tmp_path)
    assert (refused.returncode, "not a database" in refused.stderr) == (1, True)
    report = doctor(tmp_path)
    assert (report.returncode, "not a database" in report.stdout) == (1, True)


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    command = [*mounting(), f"mount -t tmpfs -o ro none {data} && exec {sys.executable} -m portico.core "]
    command[-1] += f"{SCRIPTED} --store=sqlite:///{data}/portico.db --listen=unix:{tmp_path}/core.sock"
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    assert "can't write to the database's directory: Read-only file system" in refused.stderr
    assert "Traceback" not in refused.stderr
