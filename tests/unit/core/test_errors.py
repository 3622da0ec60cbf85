"""The contract documents all errors: the comment of each reason names its status."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

import portico.client.errors as client_errors
import portico.core
import portico.gateways
from portico.core.errors import DomainError
from portico.core.sandboxes import sandbox_errors
from portico.v1 import errors_pb2

CONTRACT = Path(__file__).parents[3] / "proto/portico/v1/errors.proto"
# Reasons in results of sandboxes; status of a call only if the call returns such a result.
RESULTS_ONLY = {"KERNEL_DIED", "CALL_CANCELLED"}


def table() -> dict[str, str]:
    """Each reason with its status."""
    entry = re.compile(r"((?:  //[^\n]*\n)+)  ERROR_REASON_([A-Z_]+) = \d+;")
    found = {}
    for comment, reason in entry.findall(CONTRACT.read_text()):
        words = " ".join(line.strip(" /") for line in comment.splitlines())
        status = re.search(r"\b([A-Z_]{5,})\b", words)
        if status is not None and status[1] in grpc.StatusCode.__members__:
            found[reason] = status[1]
    return found


def kinds(of: type[DomainError]) -> Iterator[type[DomainError]]:
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


TABLE = table()
ERRORS = [kind for kind in kinds(DomainError) if hasattr(kind, "reason")]


def test_every_reason_of_the_contract_has_a_status() -> None:
    reasons = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()}  # noqa: SIM118
    assert reasons - set(TABLE) == {"UNSPECIFIED", *RESULTS_ONLY}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_of_the_core_has_the_status_of_its_reason(error: type[DomainError]) -> None:
    assert error.reason in TABLE or error.reason in RESULTS_ONLY
    assert error.code == TABLE.get(error.reason, error.code)


def test_every_reason_has_an_error() -> None:
    assert sandbox_errors.SandboxDomainError in DomainError.__subclasses__()
    reasons = {error.reason for error in ERRORS}
    assert set(TABLE) - reasons == {"INTERNAL", "UNIMPLEMENTED"}


def calls_in(package: str) -> Iterator[tuple[str, ast.Call]]:
    for path in Path(package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield f"{path.name}:{node.lineno}", node


def test_who_names_a_reason_beside_a_status_names_the_table_s() -> None:
    """Reasons in statuses that the core builds directly, and in client errors that gateways raise."""
    found = []
    for package in (*portico.core.__path__, *portico.gateways.__path__):
        for place, call in calls_in(package):
            texts = [word.value for word in ast.walk(call) if isinstance(word, ast.Constant)]
            named = [text for text in texts if text in TABLE]
            if getattr(call.func, "id", "") == "status_of" and named:
                codes = [part.attr for part in ast.walk(call) if isinstance(part, ast.Attribute)]
                found.append(
                    (place, named[0], next(code for code in codes if code in grpc.StatusCode.__members__))
                )
            kind = getattr(client_errors, getattr(call.func, "id", ""), None)
            if isinstance(kind, type) and issubclass(kind, client_errors.PorticoError) and named:
                found.append((place, named[0], kind.default_code.name))
    assert len(found) > 2
    assert [one for one in found if TABLE[one[1]] != one[2]] == []
