"""Every RPC with empty, huge, unusual and malformed input: a typed error or an answer, never UNKNOWN or
INTERNAL.
"""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status
from support.deployment import Deployment
from support.rpcs import METHODS, TYPED, call

from portico.v1 import query_pb2

START_RUN = next(method for method in METHODS if method.name == "StartRun")
# Streams that continue until their caller disconnects: the test does so after this many seconds.
ENDLESS = {"ClaimPushes": 0.5}
TEXTS = {
    "unicode": "\u0416\U0001f600\u202e\u0000\ufeff\u4f60\u597d'\";--",
    "long": "x" * 100_000,
    "json": '{"a": [1, 2.5, null, "\\ud83d\\ude00"], "b": {"c": 1e400}}',
    "query": '" OR NEAR( text: * ) --',
    "path": "../../../etc/passwd",
}


def fill(message: Message, text: str, depth: int = 0) -> Message:
    """Sets every text field to the text and every number to an absurd value."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None:
            if field.message_type.GetOptions().map_entry:
                entries = getattr(message, field.name)
                if field.message_type.fields_by_name["value"].message_type is None:
                    entries[text] = text
                elif depth < 4:
                    fill(entries[text], text, depth + 1)
            elif depth < 4 and field.is_repeated:
                fill(getattr(message, field.name).add(), text, depth + 1)
            elif depth < 4:
                getattr(message, field.name).SetInParent()
                fill(getattr(message, field.name), text, depth + 1)
            continue
        binary = field.type == FieldDescriptor.TYPE_BYTES
        value: Any = {
            FieldDescriptor.CPPTYPE_STRING: text.encode() if binary else text,
            FieldDescriptor.CPPTYPE_BOOL: False,
            FieldDescriptor.CPPTYPE_DOUBLE: float("inf"),
            FieldDescriptor.CPPTYPE_INT32: -1,
            FieldDescriptor.CPPTYPE_INT64: -(2**63),
            FieldDescriptor.CPPTYPE_UINT64: 2**64 - 1,
            FieldDescriptor.CPPTYPE_ENUM: 99,
        }[field.cpp_type]
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    return message


def bodies(method: MethodDescriptor) -> Iterator[tuple[str, bytes]]:
    request_class = GetMessageClass(method.input_type)
    yield "empty", b""
    yield "not protobuf", b"\xff\xff\xff\xff"
    yield "invalid UTF-8", b"\x0a\x04\xff\xfe\xfd\xfc\x12\x02\xff\xff"
    yield "unknown fields", b"\xba\x3e\x03abc"
    yield "wrong wire types", b"\x08\x96\x01\x10\x96\x01\x18\x96\x01"
    for name, text in TEXTS.items():
        yield name, fill(request_class(), text).SerializeToString()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_odd_input_gets_a_typed_answer(deployment: Deployment, method: MethodDescriptor) -> None:
    async with grpc.aio.insecure_channel(deployment.target) as channel:
        for name, body in bodies(method):
            error = await call(channel, method, [body], ENDLESS.get(method.name, 20))
            if error is None:
                continue
            if method.name in ENDLESS and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                continue
            assert error.code() in TYPED, f"{name}: {error.code()} {error.details()}"
            status = rpc_status.from_call(error)  # type: ignore[no-untyped-call]
            assert status is not None, name
            info = ErrorInfo()
            assert status.details[0].Unpack(info), name
            assert info.domain == "portico"
            assert "Traceback" not in str(error.details())


async def test_a_message_over_the_limit_is_refused(deployment: Deployment) -> None:
    options = [("grpc.max_send_message_length", 64 * 1024 * 1024)]
    async with grpc.aio.insecure_channel(deployment.target, options=options) as channel:
        request = query_pb2.StartRunRequest()
        request.query.request.input.add().content.add(text="x" * (17 * 1024 * 1024))
        error = await call(channel, START_RUN, [request.SerializeToString()], 20)
        assert error is not None
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_unknown_method_is_unimplemented(deployment: Deployment) -> None:
    async with grpc.aio.insecure_channel(deployment.target) as channel:
        anything: Any = channel.unary_unary("/portico.v1.QueryService/Ask")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anything(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
