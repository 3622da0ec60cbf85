"""schemathesis checks running gateways against their own OpenAPI documents.

CI makes some requests to every operation, the same each time. With PORTICO_FUZZ_SECONDS it goes through
all that the document allows and forbids, and then continues with random requests for that time: a hundred
at least.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.deployment import Deployment, ask

AGENT = """
from portico.agent import AgentApp

app = AgentApp("echo")

@app.query
async def query(msgs, context):
    if msgs[-1].text == "ask":
        yield context.input_required("?")
    yield msgs[-1].text

@app.endpoint("/echo")
def echo(body):
    return body
"""
# Rules that a schema cannot express: a token must be issued by the gateway, a path must be below /workspace,
# two members exclude each other. So a request that fits the schema may be refused, but only as documented.
UNSAID = "positive_data_acceptance"
ENDLESS = "/sandboxes/{sandbox_id}/files/changes"  # a stream that only its reader ends


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("openapi")
    file = directory / "echo.py"
    file.write_text(AGENT)
    started = Deployment(file, directory, env={"PORTICO_CORE_SANDBOX_MAX": "2"})
    yield started
    started.stop()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("document", ["/openapi.json", "/v1/openapi.json"])
def test_every_answer_is_as_the_document_says(deployment: Deployment, tmp_path: Path, document: str) -> None:
    core = deployment.child("portico.core").pid
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{deployment.url}{document}"),
        *("--checks", "all", "--exclude-checks", UNSAID, "--no-color", "--no-shrink"),
        *("--request-timeout", "15", "--exclude-path", ENDLESS, "--suppress-health-check", "all"),
    ]
    if seconds := os.environ.get("PORTICO_FUZZ_SECONDS"):
        command += ["--phases", "coverage,fuzzing,stateful", "--max-time", seconds]
    else:
        command += ["--phases", "fuzzing", "--max-examples", "6", "--generation-deterministic"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr
    assert deployment.child("portico.core").pid == core
    assert "Traceback" not in deployment.log.read_text()
    answer = httpx.post(f"{deployment.url}/process", json=ask("abc", stream=False), timeout=30)
    assert answer.json()["output"][0]["content"][0]["text"] == "abc"
