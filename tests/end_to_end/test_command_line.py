"""The command line, with real commands."""

import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from support.certificates import Authority
from support.deployment import SCRIPTED, Deployment, free_port
from support.model import ScriptedModel
from support.terminal import in_terminal

ROOT = Path(__file__).parents[2]


def portico(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "portico.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "100", "NO_COLOR": "1"},
    )


@pytest.mark.parametrize("command", [(), ("run",), ("core",), ("gateway", "sse"), ("chat",), ("runs",)])
def test_help_reads_well(command: tuple[str, ...]) -> None:
    result = portico(*command, "--help")
    assert result.returncode == 0
    assert "usage" in result.stdout.lower()


def test_chat_streams_an_answer(deployment: Deployment) -> None:
    result = portico("chat", "--core", deployment.target, "-m", "echo hello there")
    assert result.returncode == 0, result.stderr
    assert "hello there" in result.stdout


def test_what_an_agent_says_does_not_act_on_the_terminal(deployment: Deployment) -> None:
    said = "echo \x1b]52;c;aGk=\x07\x1b[2J[link=file:///x]here[/link]"
    shown = in_terminal(
        "portico.cli", "chat", "--core", deployment.target, "-m", said, "--user-id", "\x1b]0;u\x07"
    )
    assert rb"\x1b]52;c;aGk=" in shown
    assert b"[link=file:///x]here[/link]" in shown
    listed = in_terminal("portico.cli", "runs", "list", "--core", deployment.target)
    for text in (shown, listed):
        assert b"\x1b]" not in text
        assert b"\x1b[2J" not in text


def test_chat_keeps_to_a_budget(deployment: Deployment) -> None:
    said = portico("chat", "--core", deployment.target, "--budget", "wall_time=0.5", "-m", "forever")
    assert "budget of 0.5 seconds is used up" in said.stdout
    wrong = portico("chat", "--core", deployment.target, "--budget", "calls=5", "-m", "forever")
    assert wrong.returncode == 2
    assert "tool_calls=5" in wrong.stderr


def test_runs_are_listed_watched_and_cancelled(deployment: Deployment) -> None:
    portico("chat", "--core", deployment.target, "-m", "echo listed", "--user-id", "cli")
    listed = portico("runs", "list", "--core", deployment.target, "--user-id", "cli")
    (run_id,) = re.findall(r"resp_\w+", listed.stdout)
    watched = portico("runs", "watch", run_id, "--core", deployment.target)
    assert "listed" in watched.stdout
    assert "completed" in watched.stdout
    got = portico("runs", "get", run_id, "--core", deployment.target)
    assert '"RUN_STATUS_COMPLETED"' in got.stdout
    cancelled = portico("runs", "cancel", run_id, "--core", deployment.target)
    assert cancelled.returncode == 1
    assert "the run has ended" in cancelled.stdout


def test_a_file_that_is_not_there_is_named() -> None:
    result = portico("run", "nowhere.py")
    assert result.returncode == 2
    assert "nowhere.py" in result.stderr


def test_a_file_without_an_agent_says_what_to_write(tmp_path: Path) -> None:
    file = tmp_path / "empty.py"
    file.write_text("x = 1\n", encoding="utf-8")
    ports = ["--port", str(free_port()), "--grpc-port", str(free_port())]
    result = portico("run", str(file), "--data-dir", str(tmp_path), *ports)
    assert result.returncode == 2
    assert "AgentApp" in result.stderr


AGENT = """
from portico.agent import AgentApp
app = AgentApp("friday")
"""
QUERY = """
@app.query
def query(msgs):
    return "hello"
"""
MISTAKES = {
    "missing.py": (
        "import nowhere\n",
        (),
        r"can't be imported: ModuleNotFoundError: .*\(missing.py, line 1\)",
    ),
    "syntax.py": ("def (\n", (), r"can't be imported: SyntaxError: .*\(syntax.py, line 1\)"),
    "leaving.py": ("raise SystemExit(0)\n", (), r"can't be imported: SystemExit: 0"),
    "twins.py": (
        f"{AGENT}{QUERY}twin = AgentApp('friday')\ntwin.query(query)\n",
        (),
        r"2 agents have the name 'friday'",
    ),
    "queryless.py": (AGENT, (), r"agent 'friday' has no query function; decorate one with @app.query"),
    "store.py": (
        AGENT + QUERY,
        ("--store", "postgres://x/y"),
        r"--store \(PORTICO_CORE_STORE\) can't be used: unsupported store URL",
    ),
    "number.py": (
        AGENT + QUERY,
        ("--live-runs", "many"),
        r"--live-runs \(PORTICO_CORE_LIVE_RUNS\) must be a whole",
    ),
    "audited.py": (
        AGENT + QUERY,
        ("--audit-log", "/nonexistent/log"),
        r"--audit-log \(PORTICO_CORE_AUDIT_LOG\) can't be written: /nonexistent/log: No such file",
    ),
    "unfit.py": (
        AGENT + QUERY,
        ("--tls-cert", "new.crt", "--tls-key", "old.key"),
        r"old\.key: is not the private key of new\.crt",
    ),
    "expired.py": (
        AGENT + QUERY,
        ("--tls-cert", "old.crt", "--tls-key", "old.key"),
        r"old\.crt: expired on 20",
    ),
    "authority.py": (
        AGENT + QUERY,
        ("--tls-cert", "new.crt", "--tls-key", "new.key", "--tls-client-ca", "new.key"),
        r"new\.key: is not a certificate \(PEM\)",
    ),
    "keyless.py": (
        AGENT + QUERY,
        ("--auth",),
        r"auth is on and no credential can be valid: set PORTICO_CORE_ADMIN",
    ),
}


def test_a_mistake_ends_a_core_with_2_and_one_sentence(tmp_path: Path) -> None:
    calls = []
    authority = Authority(tmp_path)
    authority.issue("new"), authority.issue("old", days=(-3, -1))  # files that some of the options name
    for name, (code, options, _) in MISTAKES.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
        listen = f"--listen=unix:{tmp_path}/core.sock"
        calls.append([name, "--store", "memory://", listen, *options])
    # One process for all cases: imports take most of a start.
    program = "import sys; from portico.core.__main__ import main\n"
    program += f"for call in {calls!r}: print('status', main(call), file=sys.stderr)"
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=100, check=True
    ).stderr
    lines = iter(said.splitlines())
    for _, _, words in MISTAKES.values():
        assert re.search(f"^portico core: .*{words}", next(lines)), said
        assert next(lines) == "status 2", said


def test_a_mistake_ends_other_commands_with_2_and_one_sentence(tmp_path: Path) -> None:
    (garbage := tmp_path / "garbage.pem").write_text("nothing", encoding="utf-8")
    tls = ("--tls-cert", str(garbage), "--tls-key", str(garbage))
    authority = Authority(tmp_path)
    (cert, _), old = authority.issue("new"), authority.issue("old", days=(-3, -1))
    mistakes: list[tuple[tuple[str, ...], dict[str, str], str]] = [
        (("doctor", "--store", "nonsense"), {}, "portico doctor: invalid store URL"),
        (
            ("runs", "list"),
            {"PORTICO_TLS_CA": "/nonexistent"},
            "PORTICO_TLS_CA: /nonexistent: can't be read: No such file",
        ),
        (("keys", "list"), {"PORTICO_TLS_CA": str(garbage)}, "garbage.pem: is not a certificate (PEM)"),
        (
            ("chat",),
            {"PORTICO_TLS_CERT": str(old[0]), "PORTICO_TLS_KEY": str(old[1])},
            "PORTICO_TLS_CERT, PORTICO_TLS_KEY: ",
        ),
        (("chat",), {"PORTICO_TLS_CERT": str(old[0])}, "PORTICO_TLS_CERT and PORTICO_TLS_KEY go together"),
        (("gateway", "sse", *tls), {}, "garbage.pem: is not a certificate (PEM)"),
        (("gateway", "all", "--tls-cert", str(old[0]), "--tls-key", str(old[1])), {}, "old.crt: expired on"),
        (
            ("gateway", "all"),
            {"PORTICO_A2A_TLS_CERT": str(cert), "PORTICO_A2A_TLS_KEY": str(old[1])},
            "old.key: is not the private key of ",
        ),
        (
            ("gateway", "sse", "--core-tls", "--core-ca", str(garbage)),
            {},
            "garbage.pem: is not a certificate",
        ),
        (
            ("gateway", "openai", "--core-tls", "--core-cert", str(cert), "--core-key", str(old[1])),
            {},
            "old.key: is not the private key of ",
        ),
        (
            ("gateway", "sse"),
            {"PORTICO_SSE_CORE_CA": "/nonexistent"},
            "--core-ca (PORTICO_SSE_CORE_CA) names a file",
        ),
        (
            ("gateway", "a2a"),
            {"PORTICO_A2A_GRPC_LISTEN": "x"},
            "--grpc-listen (PORTICO_A2A_GRPC_LISTEN) must be host:port",
        ),
    ]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "portico.cli", *command],
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": "/usr/bin:/bin", "NO_COLOR": "1", **variables},
        )
        for command, variables, _ in mistakes
    ]
    try:
        for (_, _, words), process in zip(mistakes, started, strict=True):
            said = process.communicate(timeout=100)[1]
            assert process.returncode == 2, said
            assert words in said
            assert said.count("\n") == 1, said
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_a_file_that_is_slow_to_fail_ends_a_run_with_2_and_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "slow.py"
    file.write_text("import time\ntime.sleep(6)\nimport nowhere\n", encoding="utf-8")
    ports = ["--port", str(free_port()), "--grpc-port", str(free_port())]
    result = portico("run", str(file), "--data-dir", str(tmp_path), *ports)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "slow.py, line 3" in result.stderr


def test_a_port_that_is_taken_is_named(deployment: Deployment, tmp_path: Path) -> None:
    port = str(deployment.http_port)
    result = portico("run", str(SCRIPTED), "--port", port, "--data-dir", str(tmp_path))
    assert result.returncode == 1
    assert port in result.stderr


def test_two_cores_on_one_database_are_refused(deployment: Deployment) -> None:
    store = f"sqlite:///{deployment.directory / 'portico.db'}"
    result = portico("core", str(SCRIPTED), "--listen", f"127.0.0.1:{free_port()}", "--store", store)
    assert result.returncode == 1
    assert "another core" in result.stderr


def test_a_core_that_does_not_answer_is_said_plainly() -> None:
    result = portico("runs", "list", "--core", f"127.0.0.1:{free_port()}", timeout=90)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr + result.stdout


def test_an_app_runs_itself(tmp_path: Path) -> None:
    file = tmp_path / "self_run.py"
    port, grpc_port = free_port(), free_port()
    file.write_text(
        "from portico.agent import AgentApp\n"
        "app = AgentApp('selfish')\n"
        "@app.query\n"
        "def query(msgs):\n"
        "    return f'you said {msgs[-1].text}'\n"
        f"app.run('127.0.0.1', {port}, '--grpc-port', '{grpc_port}', '--data-dir', r'{tmp_path}')\n",
        encoding="utf-8",
    )
    deployment = Deployment(file, tmp_path, command=[sys.executable, str(file)], ports=(port, grpc_port))
    try:
        answer = httpx.post(f"{deployment.url}/process", json={"input": "hi", "stream": False})
        assert answer.json()["output"][0]["content"][0]["text"] == "you said hi"
    finally:
        deployment.stop()


def test_reload_serves_the_changed_file(tmp_path: Path) -> None:
    code = (
        "from portico.agent import AgentApp\n"
        "app = AgentApp('changing')\n"
        "@app.query\n"
        "def query(msgs):\n"
        "    return 'WORD'\n"
    )
    file = tmp_path / "changing.py"
    file.write_text(code.replace("WORD", "before"), encoding="utf-8")
    deployment = Deployment(file, tmp_path, "--reload")
    try:

        def says() -> str:
            answer = httpx.post(
                f"{deployment.url}/process", json={"input": "hi", "stream": False}, timeout=30
            )
            return answer.text

        assert "before" in says()
        file.write_text(code.replace("WORD", "after!"), encoding="utf-8")
        until = time.monotonic() + 30
        while "after!" not in says():
            assert time.monotonic() < until
            time.sleep(0.2)
    finally:
        deployment.stop()


def test_the_librarian_finds_passages_and_names_sources(tmp_path: Path) -> None:
    deployment = Deployment(ROOT / "examples" / "librarian.py", tmp_path)
    try:
        body = {"input": "How is a lost connection resumed?", "stream": False}
        text = httpx.post(f"{deployment.url}/process", json=body, timeout=30).json()["output"][0]["content"][
            0
        ]["text"]
        assert "comes back with the number of the last event" in text
        assert "log.md:" in text
        assert "log" in httpx.get(f"{deployment.url}/titles").json()
    finally:
        deployment.stop()


def test_the_librarian_lets_a_model_answer_from_the_passages(tmp_path: Path) -> None:
    model = ScriptedModel(["A session ", "is a conversation."])
    env = {"OPENAI_API_KEY": "not-a-key", "OPENAI_BASE_URL": model.url}
    deployment = Deployment(ROOT / "examples" / "librarian.py", tmp_path, env=env)
    try:
        body = {"input": "What is a session?", "stream": False}
        answer = httpx.post(f"{deployment.url}/process", json=body, timeout=30).json()
        assert answer["output"][0]["content"][0]["text"] == "A session is a conversation."
        assert answer["usage"]["input_tokens"] == 11
        assert "sessions.md" in model.requests[0]["messages"][0]["content"]
    finally:
        deployment.stop()
        model.stop()
