"""Portico's names accept the parameters of the reference's public names, which signatures.json lists."""

import importlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from reference.record_signatures import EARLIER, LATER, parameters, told

OURS = "portico.compat.agentscope_runtime"
RECORD: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "signatures.json").read_text())
NAMES = [(module, name) for module in RECORD for name in RECORD[module]]
# The constructor's internals and FastAPI's parameters are not compared.
DOCUMENTED = {
    "AgentApp": {"__init__", "init", "query", "shutdown", "endpoint", "task", "run", "deploy", "stop_chat"}
}
# By class: methods that the reference does not document, or that have no meaning here.
LEFT_OUT = {
    "AgentScopeSessionHistoryMemory": {"add", "delete"},  # AgentScope has changed them since
    "BaseSandboxAsync": {"get_info"},  # it blocks the loop; use get_info_async
    "FilesystemSandboxAsync": {"get_info"},
    "LocalDeployManager": {"create_detached_project"},
}


def test_everything_promised_is_recorded() -> None:
    assert {module: set(names) for module, names in RECORD.items()} == {
        module: set(names) for module, names in {**LATER, **EARLIER}.items()
    }


@pytest.mark.parametrize(("module", "name"), NAMES, ids=lambda value: value)
def test_a_name_takes_what_it_took(module: str, name: str) -> None:
    if module.startswith("adapters.agentscope") and find_spec("agentscope") is None:
        pytest.skip("AgentScope is not installed; make test-frameworks has it")
    ours = getattr(importlib.import_module(f"{OURS}.{module}"), name)
    theirs = RECORD[module][name]
    have = told(ours, inherited=True)
    assert theirs.get("constants", {}).items() <= {**have.get("constants", {})}.items()
    assert set(theirs.get("fields", [])) <= set(have.get("fields", []))
    takes(parameters(ours) if "parameters" in theirs else [], theirs.get("parameters", []), name)
    for method, wanted in theirs.get("methods", {}).items():
        if method in LEFT_OUT.get(name, ()) or method not in DOCUMENTED.get(name, (method,)):
            continue
        assert method in have["methods"], f"{name}.{method} is not there"
        takes(have["methods"][method], wanted, f"{name}.{method}")


def takes(ours: list[list[Any]], theirs: list[list[Any]], where: str) -> None:
    """Asserts that Portico's function accepts every call that the reference's accepts."""
    names = {name: (kind, required) for name, kind, required in ours}
    takes_more = any(kind == "VAR_KEYWORD" for _, kind, _ in ours)
    given = {name for name, _, _ in theirs}
    positions = [name for name, kind, _ in ours if kind.startswith("POSITIONAL")]
    place = 0
    for name, kind, _ in theirs:
        if kind.startswith("VAR_"):
            continue
        assert name in names or takes_more, f"{where} does not take {name}"
        if kind.startswith("POSITIONAL"):
            takes_any = any(one == "VAR_POSITIONAL" for _, one, _ in ours)
            assert takes_any or positions[place : place + 1] == [name], f"{where}: {name} has another place"
            place += 1
    for name, (kind, required) in names.items():
        if required and not kind.startswith("VAR_"):
            assert name in given, f"{where} wants {name}"
            wanted = next(must for one, _, must in theirs if one == name)
            assert wanted, f"{where} can't do without {name}"
