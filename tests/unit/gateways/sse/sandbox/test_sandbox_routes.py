"""REST for sandboxes, with real ones: calls, streams, WebSockets and the port proxy."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
import websockets

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def box(http: httpx.AsyncClient) -> AsyncIterator[str]:
    made = (await http.post("/sandboxes", json={"spec": {"type": "filesystem"}})).json()
    yield f"/sandboxes/{made['sandbox_id']}"
    await http.delete(f"/sandboxes/{made['sandbox_id']}")


def events(text: str) -> list[tuple[str, Any]]:
    """Returns the events of a stream."""
    blocks = [block.split("\n") for block in text.split("\n\n") if block.startswith("event: ")]
    return [(lines[0][7:], json.loads(lines[1][6:])) for lines in blocks]


async def test_from_start_to_end(http: httpx.AsyncClient) -> None:
    spec = {"limits": {"memory_bytes": 100 << 20, "call_seconds": 5}, "metadata": {"a": "b"}}
    told = {"user_id": "ann", "session_id": "s", "spec": spec}
    made = await http.post("/sandboxes", json=told)
    assert made.status_code == 201
    url = made.headers["location"]
    sandbox = made.json()
    assert sandbox["spec"]["limits"]["memory_bytes"] == 100 << 20
    assert (sandbox["spec"]["limits"]["call_seconds"], sandbox["state"]) == (5, "running")
    assert (await http.post("/sandboxes", json=told)).json()["sandbox_id"] == sandbox["sandbox_id"]
    listed = (await http.get("/sandboxes", params={"user_id": "ann"})).json()
    assert [one["sandbox_id"] for one in listed["sandboxes"]] == [sandbox["sandbox_id"]]
    assert (await http.post(f"{url}/pause")).status_code == 204
    refused = await http.post(f"{url}/cells", json={"code": "1"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "SANDBOX_PAUSED")
    assert (await http.get(url)).json()["state"] == "paused"
    assert (await http.post(f"{url}/resume")).status_code == 204
    assert (await http.get(f"{url}/metrics")).json()["processes"] > 0
    assert (await http.post(f"{url}/touch")).status_code == 200
    assert (await http.delete(url)).status_code == 204
    gone = await http.get(url)
    assert (gone.status_code, gone.json()["error"]["code"]) == (409, "SANDBOX_GONE")
    assert (await http.get("/sandboxes/sbx_none")).status_code == 404
    wrong = await http.post("/sandboxes", json={"spec": {"memory": 1}})
    assert (wrong.status_code, wrong.json()["error"]["details"]) == (422, {"field": "spec.memory"})


async def test_cells_as_one_object_and_as_a_stream(http: httpx.AsyncClient, box: str) -> None:
    whole = (await http.post(f"{box}/cells", json={"code": "print('é')\n6 * 7"})).json()
    assert whole["stdout"] == "é\n"
    assert whole["rich"] == [{"data": {"text/plain": "42"}, "is_result": True}]
    assert (whole["error"], whole["failure"], whole["execution_count"]) == (None, None, 1)
    code = "import sys, time\nprint('a', flush=True)\ntime.sleep(0.7)\nprint('é', file=sys.stderr)\n1 / 0"
    async with http.stream("POST", f"{box}/cells", json={"code": code, "stream": True}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = "".join([piece async for piece in answer.aiter_text()])
    told = events(text)
    assert told[0] == ("stdout", {"text": "a\n"})
    assert told[1] == ("stderr", {"text": "é\n"})
    assert (told[2][0], told[2][1]["error"]["name"]) == ("end", "ZeroDivisionError")
    png = base64.b64encode(b"\x89PNG").decode()
    code = f"from base64 import b64decode as d\nclass P:\n  def _repr_png_(s): return d('{png}')\nP()"
    whole = (await http.post(f"{box}/cells", json={"code": code})).json()
    assert whole["rich"][0]["data"]["image/png"] == png
    failed = (
        await http.post(f"{box}/cells", json={"code": "import time; time.sleep(9)", "timeout": 0.2})
    ).json()
    assert failed["failure"]["reason"] == "SANDBOX_TIMEOUT"


async def test_commands_and_processes(http: httpx.AsyncClient, box: str) -> None:
    whole = (await http.post(f"{box}/commands", json={"command": "cat; exit 3", "stdin": "in"})).json()
    assert whole == {"stdout": "in", "stderr": "", "exit_code": 3, "failure": None}
    answer = await http.post(f"{box}/commands", json={"command": ["echo", "hi"], "stream": True})
    assert events(answer.text)[0] == ("stdout", {"text": "hi\n"})
    started = await http.post(f"{box}/processes", json={"command": "read a; echo $a", "stdin": True})
    assert started.status_code == 201
    url = f"{box}/processes/{started.json()['pid']}"
    assert (await http.post(f"{url}/input", json={"data": "two\n", "eof": True})).status_code == 204
    told = events((await http.get(f"{url}/output")).text)
    assert told[0] == ("stdout", {"text": "two\n"})
    assert told[1][1]["exit_code"] == 0
    assert (await http.get(f"{box}/processes")).json()["processes"][0]["exit_code"] == 0
    missing = await http.post(f"{box}/processes/99/signal", json={"signal": 9})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "PROCESS_NOT_FOUND")
    assert (await http.get(f"{box}/processes/99/output")).status_code == 404


async def test_a_caller_that_leaves_ends_its_cell(http: httpx.AsyncClient, box: str) -> None:
    code = "z = 1\nprint(1, flush=True)\nimport time; time.sleep(60)"
    async with http.stream("POST", f"{box}/cells", json={"code": code, "stream": True}) as answer:
        async for _ in answer.aiter_text():
            break
    # Cells run one after the other, so this one waits until the other has ended.
    assert (await http.post(f"{box}/cells", json={"code": "z"}, timeout=50)).json()["rich"]


async def test_tools(http: httpx.AsyncClient, box: str) -> None:
    tools = (await http.get(f"{box}/tools")).json()["tools"]
    assert {"run_ipython_cell", "read_file"} <= {tool["name"] for tool in tools}
    result = (await http.post(f"{box}/tools/run_shell_command", json={"command": "echo a"})).json()
    assert (result["content"][0]["text"], result["isError"]) == ("a\n", False)
    assert (await http.post(f"{box}/tools/fly", json={})).json()["error"]["code"] == "TOOL_NOT_FOUND"


async def test_files(http: httpx.AsyncClient, box: str) -> None:
    files = f"{box}/files"

    async def large() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 1_000_000

    written = await http.put(f"{files}/content", params={"path": "big"}, content=large())
    assert written.json() == {"size_bytes": 30_000_000}
    size = 0
    async with http.stream("GET", f"{files}/content", params={"path": "big"}) as answer:
        assert answer.headers["content-disposition"] == "attachment"
        async for piece in answer.aiter_bytes():
            size += len(piece)
    assert size == 30_000_000
    params: dict[str, Any] = {"path": "a", "mode": "create"}
    assert (await http.put(f"{files}/content", params=params, content=b"one two")).status_code == 200
    assert (await http.put(f"{files}/content", params=params, content=b"")).status_code == 409
    part = await http.get(f"{files}/content", params={"path": "a", "offset": 4, "length": 2})
    assert part.content == b"tw"
    assert [info["path"] for info in (await http.get(files)).json()["files"]]
    assert (await http.get(f"{files}/info", params={"path": "a"})).json()["size_bytes"] == 7
    edit = {"path": "a", "edits": [{"old_text": "two", "new_text": "2"}]}
    assert "+one 2" in (await http.post(f"{files}/edit", json=edit)).json()["diff"]
    assert (await http.post(f"{files}/directories", json={"path": "d"})).status_code == 204
    assert (await http.post(f"{files}/move", json={"source": "a", "destination": "d/a"})).status_code == 204
    found = (await http.get(f"{files}/search", params={"text": "one"})).json()["files"]
    assert [(one["path"].endswith("d/a"), one["line"]) for one in found] == [(True, 1)]
    assert (await http.delete(files, params={"path": "d", "recursive": True})).status_code == 204
    missing = await http.get(f"{files}/content", params={"path": "d/a"})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "FILE_NOT_FOUND")
    async with http.stream("GET", f"{files}/changes") as answer:
        changes = answer.aiter_text()
        assert events(await anext(changes))[0][0] == "ready"
        await http.post(f"{files}/directories", json={"path": "new"})
        assert events(await anext(changes))[0] == ("created", {"path": "./new", "directory": True})


async def test_downloads_have_a_length_ranges_and_a_validator(http: httpx.AsyncClient, box: str) -> None:
    url, content = f"{box}/files/content?path=f", bytes(range(256)) * 400
    await http.put(url, content=content)
    async with asyncio.timeout(60):
        while "etag" not in (whole := await http.get(url)).headers:  # right after a change there is no ETag
            assert whole.content == content
            await asyncio.sleep(0.2)
    tag = whole.headers["etag"]
    assert (whole.headers["content-length"], whole.headers["accept-ranges"]) == ("102400", "bytes")
    head = await http.head(url)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag)
    assert head.headers["content-length"] == "102400"
    for asked, first, last in (
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("bytes=102300-", 102300, 102399),
        ("bytes=-10", 102390, 102399),
        ("bytes=0-999999", 0, 102399),
        ("bytes=-999999", 0, 102399),
    ):
        part = await http.get(url, headers={"range": asked})
        assert (part.status_code, part.content) == (206, content[first : last + 1]), asked
        assert part.headers["content-range"] == f"bytes {first}-{last}/102400"
        assert part.headers["content-length"] == str(last - first + 1)
    for asked in ("bytes=102400-", "bytes=999999-1999999", "bytes=-0"):
        none = await http.get(url, headers={"range": asked})
        assert (none.status_code, none.headers["content-range"]) == (416, "bytes */102400"), asked
        assert none.json()["error"]["code"] == "RANGE_NOT_SATISFIABLE"
    for asked in ("bytes=5-4", "bytes=0-1,5-6", "lines=0-1", "bytes=a-b", "bytes=-"):
        given = {"range": asked}
        assert (await http.get(url, headers=given)).status_code == 200, asked
    same = {"range": "bytes=0-9", "if-range": tag}
    assert (await http.get(url, headers=same)).content == content[:10]
    other = await http.get(url, headers={**same, "if-range": '"other"'})
    assert (other.status_code, other.content) == (200, content)
    known = await http.get(url, headers={"if-none-match": f'"x", W/{tag}'})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", tag)
    sliced = await http.get(f"{url}&offset=10&length=5", headers={"range": "bytes=0-1"})
    assert (sliced.status_code, sliced.content, sliced.headers["content-length"]) == (
        200,
        content[10:15],
        "5",
    )
    assert "etag" not in sliced.headers
    missing = await http.head(f"{box}/files/content?path=none")
    assert (missing.status_code, missing.content) == (404, b"")
    await http.put(f"{box}/files/content?path=empty", content=b"")
    assert (await http.get(f"{box}/files/content?path=empty")).headers["content-length"] == "0"
    none = await http.get(f"{box}/files/content?path=empty", headers={"range": "bytes=0-"})
    assert (none.status_code, none.headers["content-range"]) == (416, "bytes */0")


async def test_a_download_whose_file_is_cut_never_ends_cleanly(http: httpx.AsyncClient, box: str) -> None:
    async def cell(code: str) -> None:
        assert (await http.post(f"{box}/cells", json={"code": code})).json()["error"] is None

    await cell("open('cut', 'wb').truncate(100 << 20)")
    async with http.stream("GET", f"{box}/files/content?path=cut") as answer:
        assert answer.headers["content-length"] == str(100 << 20)
        await cell("open('cut', 'r+b').truncate(100)")
        with pytest.raises(httpx.RemoteProtocolError):
            await answer.aread()


async def test_checkpoints_and_snapshots(http: httpx.AsyncClient, box: str) -> None:
    async def cell(code: str) -> str:
        told = (await http.post(f"{box}/cells", json={"code": code})).json()
        return str(told["rich"][0]["data"]["text/plain"]) if told["rich"] else ""

    await cell("x = 1")
    assert (await http.post(f"{box}/checkpoints", json={"name": "c"})).status_code == 204
    await cell("x = 2")
    assert (await http.post(f"{box}/rollback", json={"checkpoint": "c"})).json() == {"kernel_restored": True}
    assert await cell("x") == "1"
    taken = (await http.post(f"{box}/snapshots")).json()
    fork = await http.post(f"/sandboxes/{taken['snapshot_id']}/fork", json={})
    assert fork.status_code == 201
    await http.delete(fork.headers.get("location", f"/sandboxes/{fork.json()['sandbox_id']}"))
    listed = (await http.get("/sandboxes/snapshots")).json()
    assert [one["snapshot_id"] for one in listed["snapshots"]] == [taken["snapshot_id"]]
    assert listed["snapshots"][0]["size_bytes"] == taken["size_bytes"]
    assert box.endswith(listed["snapshots"][0]["sandbox_id"])
    snapshot = f"/sandboxes/snapshots/{taken['snapshot_id']}"
    assert (await http.delete(snapshot)).status_code == 204
    assert (await http.delete(snapshot)).status_code == 404


SERVER = """
import http.server
class H(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        said = self.rfile.read(int(self.headers['content-length']))
        text = f"{self.path} {self.headers['authorization']} {self.headers['cookie']} ".encode() + said
        self.send_response(200)
        self.send_header('content-length', str(len(text)))
        self.send_header('set-cookie', 'a=b')
        self.end_headers()
        self.wfile.write(text)
    def do_GET(self):
        self.send_response(302)
        self.send_header('location', '/there')
        self.send_header('content-length', '0')
        self.end_headers()
http.server.HTTPServer(('127.0.0.1', 8000), H).serve_forever()
"""


async def test_a_port_is_proxied_and_gets_no_secrets(http: httpx.AsyncClient, box: str) -> None:
    access = await http.post(f"{box}/ports/8000", json={"lifetime": 60})
    assert access.status_code == 201
    path = access.json()["path"]
    refused = await http.get(path)
    assert (refused.status_code, refused.json()["error"]["code"]) == (502, "PORT_REFUSED")
    await http.put(f"{box}/files/content", params={"path": "s.py"}, content=SERVER)
    await http.post(f"{box}/processes", json={"command": "exec python3 s.py"})
    async with asyncio.timeout(20):
        while (await http.get(path)).status_code == 502:
            await asyncio.sleep(0.05)
    secrets = {"authorization": "Bearer mine", "cookie": "c=d"}
    answer = await http.post(f"{path}a%2Fb?c=d", content=b"x" * 100_000, headers=secrets)
    assert answer.text == "/a%2Fb?c=d None None " + "x" * 100_000
    assert "set-cookie" not in answer.headers
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert (await http.get(path)).headers["location"] == f"{path}there"
    assert (await http.get(path.rstrip("/"))).status_code == 307
    assert (await http.get("/ports/nonsense/")).status_code == 404


async def test_a_terminal_over_websocket(http: httpx.AsyncClient, box: str) -> None:
    url = f"{http.base_url}".replace("http://", "ws://").rstrip("/") + f"{box}/terminal?rows=11&columns=33"
    async with asyncio.timeout(50), websockets.connect(url) as socket:
        await socket.send(b"stty size\n")
        shown = b""
        while b"11 33" not in shown:
            said = await socket.recv()
            assert isinstance(said, bytes)
            shown += said
        await socket.send(json.dumps({"rows": 22, "columns": 44}))
        await socket.send(b"stty size; exit 4\n")
        while isinstance(said := await socket.recv(), bytes):
            shown += said
        assert b"22 44" in shown
        assert json.loads(said) == {"end": {"exit_code": 4, "failure": None}}
    with pytest.raises(websockets.InvalidStatus):
        await websockets.connect(url, additional_headers={"origin": "https://elsewhere.example"})
    async with asyncio.timeout(50), websockets.connect(url.replace("sbx_", "sbx_0")) as socket:
        assert json.loads(await socket.recv())["error"]["code"] == "SANDBOX_NOT_FOUND"


async def test_numbers_out_of_range_are_refused_with_the_range(http: httpx.AsyncClient, box: str) -> None:
    huge = ("1e999", "-1", "1e12", str(2**63 - 1), str(2**63), "9" * 400, "NaN", "Infinity", '"7"', "null")
    bodies = [
        ("/sandboxes", f'{{"spec": {{"limits": {{"{name}": {value}}}}}}}')
        for name in (
            "memory_bytes",
            "cpus",
            "processes",
            "disk_bytes",
            "inodes",
            "output_bytes",
            "call_seconds",
        )
        for value in huge
        if (name, value) != ("call_seconds", "null")
    ]
    for name in ("ttl_seconds", "idle_seconds"):
        bodies += [("/sandboxes", f'{{"spec": {{"{name}": {value}}}}}') for value in huge if value != "null"]
    for path, rest in ((f"{box}/cells", '"code": "1"'), (f"{box}/commands", '"command": "true"')):
        bodies += [(path, f'{{{rest}, "timeout": {value}}}') for value in huge if value != "null"]
    bodies += [(f"{box}/ports/80", f'{{"lifetime": {value}}}') for value in huge if value != "null"]
    headers = {"content-type": "application/json"}
    for path, body in bodies:
        answer = await http.post(path, content=body, headers=headers)
        assert answer.status_code in (400, 422), (path, body, answer.text)
        assert "rror" in answer.text, answer.text
    for query in ("page_size=-1", "page_size=1e9", f"page_size={2**63}", "page_token=NaN"):
        assert (await http.get(f"/sandboxes?{query}")).status_code in (400, 422)
        assert (await http.get(f"/sandboxes/snapshots?{query}")).status_code in (400, 422)
