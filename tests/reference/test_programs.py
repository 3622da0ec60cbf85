"""The README's programs that need no AgentScope: sandboxes and deployments."""

import json
from pathlib import Path
from types import ModuleType

import pytest
from support import notebook
from support.deployment import free_port
from support.reference_programs import finished, renamed, started

from portico.compat.agentscope_runtime.errors import NotThereYet

APP = """
from portico.compat.agentscope_runtime.engine import AgentApp

app = AgentApp(app_name="Friday", app_description="A helpful assistant")


@app.query(framework="text")
async def query_func(self, msgs, request=None, **kwargs):
    yield "It is "
    yield "sunny."
"""
THEN = """
print(deploy_result["url"], flush=True)
input()
print(await deployer.stop(deploy_result["deploy_id"]))
"""


@pytest.mark.parametrize(("version", "twins"), [("v1_0", 1), ("v1_1", 2)])
def test_the_base_sandbox_runs_python_and_shell(version: str, twins: int, tmp_path: Path) -> None:
    status, out, err = finished(renamed(f"{version}/base_sandbox", tmp_path, 0))
    assert status == 0, err
    assert out.count("run_ipython_cell") >= twins
    assert out.count("'text': 'hi\\n'") == twins
    assert out.count("'text': 'hello\\n'") == twins


@pytest.mark.parametrize(("version", "twins"), [("v1_0", 1), ("v1_1", 2)])
def test_the_filesystem_sandbox_has_tools_for_files(version: str, twins: int, tmp_path: Path) -> None:
    after = "print(box.sandbox_id)"
    status, out, err = finished(renamed(f"{version}/filesystem_sandbox", tmp_path, 0, after=after))
    assert status == 0, err
    assert out.count("'create_directory'") >= twins
    assert err.count("has no desktop") == twins


@pytest.mark.parametrize("version", ["v1_0", "v1_1"])
@pytest.mark.parametrize("kind", ["gui", "browser", "mobile"])
def test_sandboxes_that_are_not_there_say_so(version: str, kind: str, tmp_path: Path) -> None:
    file = renamed(f"{version}/{kind}_sandbox", tmp_path, 0)
    with pytest.raises(NotThereYet, match=f"{kind.title()}Sandbox .* use BaseSandbox or Filesystem"):
        notebook.run(str(file), ModuleType("program"))


@pytest.mark.parametrize("version", ["v1_0", "v1_1"])
def test_a_local_deployment_answers_openais_sdk(version: str, tmp_path: Path) -> None:
    port = free_port()
    file = renamed(f"{version}/local_deployment", tmp_path, port, before=APP, after=THEN)
    with started(file) as deployment:
        assert deployment.stdin is not None
        assert deployment.stdout is not None
        try:
            assert deployment.stdout.readline().strip() == f"http://0.0.0.0:{port}"
            asking = renamed(f"{version}/openai_client", tmp_path, port)
            status, out, err = finished(asking, OPENAI_API_KEY="none")
            assert status == 0, err
            assert "It is sunny." in out
        finally:
            rest, said = deployment.communicate("\n", timeout=60)
    assert deployment.returncode == 0, said
    assert "'success': True" in rest
    # It was not open to other machines, because it requires no credential.
    assert "serving on 127.0.0.1 only" in said


def test_a_deployment_to_a_cloud_says_that_it_is_not_there(tmp_path: Path) -> None:
    file = renamed("v1_1/modelstudio_deployment", tmp_path, 0)
    with pytest.raises(NotThereYet, match=r"ModelstudioDeployManager .* use LocalDeployManager"):
        notebook.run(str(file), ModuleType("program"))


def test_nothing_is_left_of_a_deployment(tmp_path: Path) -> None:
    """Its record says that it has ended."""
    port = free_port()
    after = THEN.replace("input()\n", "")
    status, _, err = finished(renamed("v1_1/local_deployment", tmp_path, port, before=APP, after=after))
    assert status == 0, err
    [record] = (tmp_path / ".portico" / "deployments").glob("*.json")
    assert json.loads(record.read_text())["status"] == "stopped"
