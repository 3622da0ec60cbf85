"""Every RPC with random messages: the result is an answer or a typed error, and the core stays intact.

PORTICO_FUZZ_EXAMPLES sets the number of calls of each method; unless it is set, they are the same each
time.
"""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.deployment import Deployment
from support.rpcs import METHODS, TYPED, call, found_in

from portico.client import Client

EXAMPLES = int(os.environ.get("PORTICO_FUZZ_EXAMPLES", "15"))
AGENT = """
from portico.agent import AgentApp

app = AgentApp("echo")

@app.query
async def query(msgs, context):
    if len(msgs[-1].text) % 7 == 6:
        yield context.input_required("?")
    yield msgs[-1].text

@app.endpoint("/echo")
def echo(body):
    return body
"""
MIB = 1024 * 1024
STREAM_SECONDS = 0.3
INSIDE = (
    "Traceback",
    'File "',
    ".py",
    "site-packages",
    sys.prefix,
    str(Path.home()),
    "object at 0x",
    "sqlite",
)
KNOWN = ["", "u", "s", "echo", "/echo", "base", "a/b.txt", "m1", "0"]
ODD = [
    "\0",
    "\u202e\U0001f600",
    "x" * 5000,
    "../../../etc/passwd",
    "' OR 1=1 --",
    "%",
    "NEAR(a b)",
    "-1",
    "1e999",
]

pytestmark = pytest.mark.xdist_group("fuzzed RPCs")  # one core for all tests


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("fuzzed")
    file = directory / "echo.py"
    file.write_text(AGENT)
    started = Deployment(file, directory, env={"PORTICO_CORE_SANDBOX_MAX": "2"})
    yield started
    started.stop()


texts = st.one_of(st.sampled_from(KNOWN), st.sampled_from(KNOWN), st.sampled_from(ODD), st.text(max_size=30))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
json_texts = st.one_of(
    st.just(""),
    st.dictionaries(texts, json_values, max_size=3).map(json.dumps),
    json_values.map(json.dumps),
    st.sampled_from(["{", "[1, 2]", '"x"', '{"a": NaN}', '{"a": 1, "a": 2}', "[" * 500 + "]" * 500, "1e400"]),
)


def integers(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.sampled_from([0, 1, 2, 10]) | st.integers(least, most)


def values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type, depth + 1)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=100)
    if field.enum_type is not None:
        return st.sampled_from([*field.enum_type.values_by_number, 99])
    kinds: dict[int, st.SearchStrategy[Any]] = {
        FieldDescriptor.CPPTYPE_STRING: json_texts if field.name.endswith("_json") else texts,
        FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
        FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
        FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32),
        FieldDescriptor.CPPTYPE_INT32: integers(32, signed=True),
        FieldDescriptor.CPPTYPE_INT64: integers(64, signed=True),
        FieldDescriptor.CPPTYPE_UINT32: integers(32, signed=False),
        FieldDescriptor.CPPTYPE_UINT64: integers(64, signed=False),
    }
    return kinds[field.cpp_type]


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 0) -> Message:
    """Returns a message of this type with some of its fields set."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if draw(st.integers(0, 3 + depth)) > 2 or depth > 4:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name).update(draw(st.dictionaries(texts, texts, max_size=2)))
        elif field.is_repeated:
            drawn = draw(st.lists(values(field, depth), max_size=2))
            getattr(message, field.name).extend(drawn)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(draw(values(field, depth)))
        else:
            setattr(message, field.name, draw(values(field, depth)))
    return message


def bodies(method: MethodDescriptor) -> st.SearchStrategy[list[bytes]]:
    most = 3 if method.client_streaming else 1
    encoded = messages(method.input_type).map(lambda message: message.SerializeToString())
    return st.lists(encoded, min_size=1, max_size=most)


async def send(target: str, method: MethodDescriptor, sent: list[bytes]) -> None:
    streams = method.server_streaming or method.client_streaming
    async with grpc.aio.insecure_channel(target) as channel:
        error = await call(channel, method, sent, STREAM_SECONDS if streams else 20, responses=20)
    if error is None or (streams and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED):
        return
    assert error.code() in TYPED, f"{error.code()} {error.details()}"
    assert not found_in(error, INSIDE), error.details()
    status = rpc_status.from_call(error)  # type: ignore[no-untyped-call]
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "portico"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_whatever_is_sent_gets_an_answer_or_a_typed_error(
    deployment: Deployment, method: MethodDescriptor
) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize="PORTICO_FUZZ_EXAMPLES" not in os.environ,
        phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(sent=bodies(method))
    def fuzz(sent: list[bytes]) -> None:
        runner.run(send(deployment.target, method, sent))

    core = deployment.child("portico.core").pid
    with asyncio.Runner() as runner:
        fuzz()
    assert deployment.child("portico.core").pid == core


async def test_no_service_of_the_core_is_left_out(deployment: Deployment) -> None:
    async with grpc.aio.insecure_channel(deployment.target) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[no-untyped-call]
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        async for answer in stub.ServerReflectionInfo(asked):
            served = {service.name for service in answer.list_services_response.service}
    known = {method.containing_service.full_name for method in METHODS}
    assert {name for name in served if name.startswith("portico.")} == known


async def test_afterwards_it_serves_and_its_memory_is_flat(deployment: Deployment) -> None:
    core = deployment.child("portico.core")
    sent = {
        method.name: GetMessageClass(method.input_type)().SerializeToString()
        for method in METHODS
        if not method.client_streaming and not method.server_streaming
    }
    methods = [method for method in METHODS if method.name in sent]

    async def round_of_all(count: int) -> int:
        async with grpc.aio.insecure_channel(deployment.target) as channel:
            for _ in range(count):
                for method in methods:
                    await call(channel, method, [sent[method.name]], 20)
        return int(core.memory_info().rss)

    settled = await round_of_all(5)
    assert await round_of_all(20) - settled < 16 * MIB
    async with Client(deployment.target) as client:
        assert await client.runs.query("abc").text() == "abc"
