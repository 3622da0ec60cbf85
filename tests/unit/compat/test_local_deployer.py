"""LocalDeployManager: on a thread of this process, and as a separate process."""

import json
from pathlib import Path

import httpx
import pytest
from support.deployment import free_port

from portico.compat.agentscope_runtime.engine import AgentApp, LocalDeployManager
from portico.compat.agentscope_runtime.engine.deployers.utils.deployment_modes import DeploymentMode
from portico.compat.agentscope_runtime.errors import NotThereYet
from portico.embedded import allowed_host

PROGRAM = """
import os
from portico.compat.agentscope_runtime.engine import AgentApp

app = AgentApp(app_name="parrot")


@app.query(framework="text")
async def query(self, msgs, **kwargs):
    yield msgs[-1].text + os.environ.get("SUFFIX", "")
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parrot() -> AgentApp:
    app = AgentApp(app_name="parrot")

    @app.query(framework="text")  # type: ignore[untyped-decorator]
    async def query(self: AgentApp, msgs: list, **kwargs: object) -> object:
        yield msgs[-1].text

    return app


async def said(url: str, text: str) -> str:
    async with httpx.AsyncClient(timeout=30) as http:
        answer = await http.post(f"{url}/process", json={"input": text})
    last = json.loads(answer.text.strip().rpartition("data: ")[2])
    return str(last["output"][0]["content"][0]["text"])


async def test_an_app_is_served_until_it_is_stopped() -> None:
    deployer = LocalDeployManager(port=free_port())
    deployed = await parrot().deploy(deployer)
    assert deployed == {"deploy_id": deployer.deploy_id, "url": f"http://127.0.0.1:{deployer.port}"}
    assert await said(deployed["url"], "hello") == "hello"
    assert deployer.get_deployment_info()["is_running"]
    with pytest.raises(RuntimeError, match="already running"):
        await parrot().deploy(deployer)
    stopped = await deployer.stop(deployed["deploy_id"])
    assert stopped["success"]
    assert not deployer.is_service_running()
    assert deployer.service_url is None
    with pytest.raises(httpx.ConnectError):
        await said(deployed["url"], "hello")


async def test_a_port_that_is_taken_is_told() -> None:
    first = LocalDeployManager(port=free_port())
    deployed = await parrot().deploy(first)
    with pytest.raises(RuntimeError, match=f"can't listen on 127.0.0.1:{first.port}"):
        await parrot().deploy(LocalDeployManager(port=first.port))
    await first.stop(deployed["deploy_id"])


async def test_an_init_that_raises_is_told() -> None:
    app = parrot()

    @app.init
    async def begin(self: AgentApp) -> None:
        raise OSError("no database")

    deployer = LocalDeployManager(port=free_port())
    with pytest.raises(RuntimeError, match="no database"):
        await app.deploy(deployer)
    assert not deployer.is_service_running()


async def test_a_detached_process_is_stopped_by_whoever_knows_its_id(directory: Path) -> None:
    (directory / "parrot.py").write_text(PROGRAM)
    deployer = LocalDeployManager(port=free_port())
    deployed = await deployer.deploy(
        entrypoint="parrot.py:app",
        project_dir=str(directory),
        mode=DeploymentMode.DETACHED_PROCESS,
        environment={"SUFFIX": "!"},
    )
    assert await said(deployed["url"], "hello") == "hello!"
    assert deployer.get_deployment_info()["pid"]
    stopped = await LocalDeployManager().stop(deployed["deploy_id"])
    assert stopped["success"]
    assert not deployer.is_service_running()
    again = await LocalDeployManager().stop(deployed["deploy_id"])
    assert not again["success"]


async def test_a_detached_process_that_does_not_start_is_told_with_its_words(directory: Path) -> None:
    (directory / "broken.py").write_text("app = None")
    deployer = LocalDeployManager(port=free_port())
    with pytest.raises(RuntimeError, match="has no AgentApp"):
        await deployer.deploy(entrypoint="broken.py", mode=DeploymentMode.DETACHED_PROCESS)
    assert not deployer.is_service_running()


async def test_what_can_not_be_deployed_is_refused() -> None:
    deployer = LocalDeployManager()
    with pytest.raises(RuntimeError, match="no app and no runner"):
        await deployer.deploy()
    with pytest.raises(RuntimeError, match="give entrypoint"):
        await deployer.deploy(app=parrot(), mode=DeploymentMode.DETACHED_PROCESS)
    with pytest.raises(NotThereYet, match="endpoint_path"):
        await deployer.deploy(app=parrot(), endpoint_path="/elsewhere")
    assert not (await deployer.stop("never-was"))["success"]
    assert not (await deployer.stop("../../etc/passwd"))["success"]


def test_other_machines_are_served_only_when_somebody_allows_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert allowed_host("localhost") == ("localhost", False)
    assert allowed_host("0.0.0.0") == ("127.0.0.1", False)
    assert "PORTICO_HTTP_INSECURE_NO_AUTH" in caplog.text
    monkeypatch.setenv("PORTICO_HTTP_INSECURE_NO_AUTH", "true")
    assert allowed_host("0.0.0.0") == ("0.0.0.0", True)
