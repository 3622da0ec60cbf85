"""LangGraph's features: checkpoints, store, interrupts, every stream mode."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.graph import START, MessagesState, StateGraph
from support.serving import running_core

from portico.agent import (
    AgentApp,
    Context,
    DataContent,
    FileContent,
    ImageContent,
    Message,
    MessageType,
    Role,
    TextContent,
    tool_call,
    tool_output,
)
from portico.client import Client
from portico.frameworks.langgraph import PorticoSaver, PorticoStore, to_langchain
from portico.v1 import events_pb2 as pb

Serve = Callable[..., Awaitable[Client]]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def start(*apps: AgentApp) -> Client:
            await stack.enter_async_context(running_core(apps, tmp_path))
            return await stack.enter_async_context(Client(f"unix:{tmp_path}/core.sock"))

        yield start


async def in_a_run(serve: Serve, work: Callable[[Context], Awaitable[None]]) -> None:
    """Executes work with the context of a run; its exceptions reach the test."""
    app, raised = AgentApp("worker"), []

    @app.query
    async def query(context: Context) -> str:
        try:
            await work(context)
        except BaseException as error:
            raised.append(error)
        return "done"

    client = await serve(app)
    await client.runs.query("go", session_id="s", user_id="u").text()
    if raised:
        raise raised[0]


async def test_the_checkpointer_conforms(serve: Serve) -> None:
    async def work(context: Context) -> None:
        @checkpointer_test("portico")
        async def checkpointer() -> AsyncGenerator[PorticoSaver, None]:
            yield PorticoSaver(context)

        report = await validate(checkpointer)
        failed = {name: result.failures for name, result in report.results.items() if result.failures}
        assert not failed
        assert report.passed_all_base()
        assert {"copy_thread", "prune"} <= {name for name, result in report.results.items() if result.passed}

    await in_a_run(serve, work)


async def test_old_checkpoints_of_a_thread_go(serve: Serve) -> None:
    async def work(context: Context) -> None:
        saver = PorticoSaver(context, kept=3)
        builder = StateGraph(MessagesState)
        builder.add_node("say", lambda state: {"messages": [AIMessage("yes")]})
        builder.add_edge(START, "say")
        graph = builder.compile(checkpointer=saver)
        config: Any = {"configurable": {"thread_id": "t"}}
        for _ in range(4):
            await graph.ainvoke({"messages": [HumanMessage("again")]}, config)
        assert len([found async for found in saver.alist(config)]) == 3
        assert len((await graph.aget_state(config)).values["messages"]) == 8

    await in_a_run(serve, work)


async def test_items_of_the_store_are_found_by_key_words_and_namespace(serve: Serve) -> None:
    async def work(context: Context) -> None:
        store = PorticoStore(context)
        await store.aput(("ada", "likes"), "food", {"text": "olives and bread", "score": 2})
        await store.aput(("ada", "likes"), "drink", {"text": "green tea", "score": 5})
        await store.aput(("bob",), "food", {"text": "olives"})
        await store.aput(("ada", "likes"), "food", {"text": "olives and cheese", "score": 3})
        item = await store.aget(("ada", "likes"), "food")
        assert item is not None
        assert item.value == {"text": "olives and cheese", "score": 3}
        assert item.updated_at > item.created_at
        found = await store.asearch(("ada",), query="olives")
        assert [(hit.key, hit.value["score"]) for hit in found] == [("food", 3)]
        assert [hit.key for hit in await store.asearch(("ada",), filter={"score": {"$gt": 4}})] == ["drink"]
        assert await store.alist_namespaces(prefix=("ada",)) == [("ada", "likes")]
        await store.adelete(("ada", "likes"), "food")
        assert await store.aget(("ada", "likes"), "food") is None

    await in_a_run(serve, work)


async def test_an_interrupt_waits_for_a_human_and_goes_on_with_the_answer(client: Client) -> None:
    events = [event async for event in client.runs.query("book Rome", agent="langgraph")]
    paused = events[-1].response
    assert paused.status == pb.RUN_STATUS_INPUT_REQUIRED
    assert paused.input_request.prompt == "Book Rome?"
    run = await client.runs.resume(paused.id, "by train")
    events = [event async for event in client.runs.watch(paused.id, after=run.last_sequence_number)]
    output = events[-1].response.output
    assert [message.type for message in output] == [
        pb.MESSAGE_TYPE_PLUGIN_CALL,
        pb.MESSAGE_TYPE_PLUGIN_CALL_OUTPUT,
        pb.MESSAGE_TYPE_MESSAGE,
    ]
    assert "booked Rome: by train" in output[1].content[0].data_json
    assert output[2].content[0].text == "Done."


async def say(serve: Serve, *items: Any) -> list[pb.Message]:
    """Returns the output of an agent that yields these items."""
    app = AgentApp("says")

    @app.query(framework="langgraph")
    async def query() -> AsyncGenerator[Any, None]:
        for item in items:
            yield item

    client = await serve(app)
    events = [event async for event in client.runs.query("go")]
    assert events[-1].response.status == pb.RUN_STATUS_COMPLETED, events[-1].response.error
    return list(events[-1].response.output)


def piece(text: str) -> AIMessageChunk:
    return AIMessageChunk(content=text, id="1")


@pytest.mark.parametrize(
    "items",
    [
        [(piece("Hel"), {"langgraph_node": "a"}), (piece("lo"), {})],
        [(AIMessage("Hel", id="1"), False), (AIMessage("Hello", id="2"), True)][1:],
        [("messages", (piece("Hel"), {})), ("messages", (piece("lo"), {}))],
        [(("sub:1",), "messages", (piece("Hello"), {}))],
        [{"type": "messages", "ns": (), "data": (piece("Hello"), {})}],
        [{"node": {"messages": [AIMessage("Hello", id="1")]}}],
        [("updates", {"node": {"messages": AIMessage("Hello", id="1")}})],
        [("values", {"messages": [HumanMessage("go"), AIMessage("Hello", id="1")]})] * 2,
        [piece("Hello"), {"node": {"messages": [AIMessage("Hello", id="1")]}}],
        [AIMessage("Hello")],
        [("custom", "Hello"), ("tasks", {"id": "x"}), ("debug", {})],
    ],
)
async def test_every_mode_of_streaming_says_the_same(serve: Serve, items: list[Any]) -> None:
    output = await say(serve, *items)
    assert ["".join(content.text for content in message.content) for message in output] == ["Hello"]


async def test_messages_that_nodes_stream_side_by_side_are_told_one_after_the_other(serve: Serve) -> None:
    chunks = [
        AIMessageChunk(content="one ", id="1"),
        AIMessageChunk(content="two ", id="2"),
        AIMessageChunk(content="1", id="1", chunk_position="last"),
        AIMessageChunk(content="2", id="2"),
    ]
    output = await say(serve, *chunks)
    assert [message.content[0].text for message in output] == ["one 1", "two 2"]


async def test_blocks_that_are_no_text_arrive(serve: Serve) -> None:
    blocks: Any = [
        {"type": "reasoning", "reasoning": "hm"},
        {"type": "text", "text": "See: "},
        {"type": "image", "base64": "aGk=", "mime_type": "image/png"},
        {"type": "audio", "base64": "aGk=", "mime_type": "audio/wav"},
        {"type": "file", "url": "https://x/a.pdf", "mime_type": "application/pdf", "filename": "a.pdf"},
    ]
    result = ToolMessage([{"type": "text", "text": "no"}], tool_call_id="c", name="t", status="error")
    thoughts, answer, failed = await say(serve, AIMessage(blocks), result)
    assert thoughts.type == pb.MESSAGE_TYPE_REASONING
    assert [content.WhichOneof("value") for content in answer.content] == ["text", "image", "audio", "file"]
    assert answer.content[1].image.image_url == "data:image/png;base64,aGk="
    assert failed.metadata_json == '{"status":"error"}'


async def test_what_is_no_graphs_fails_the_run_with_words_that_say_so(serve: Serve) -> None:
    app = AgentApp("odd")

    @app.query(framework="langgraph")
    async def query() -> AsyncGenerator[Any, None]:
        yield 7

    client = await serve(app)
    events = [event async for event in client.runs.query("go")]
    assert "what a graph streams, not int" in events[-1].response.error.message


def test_messages_become_langchains_and_keep_everything() -> None:
    messages = [
        Message(Role.SYSTEM, (TextContent("be kind"),)),
        Message(
            Role.USER,
            (
                TextContent("see"),
                ImageContent("data:image/jpeg;base64,aGk="),
                FileContent(file_data="aGk=", filename="a.txt", media_type="text/plain"),
                DataContent({"degrees": 21}),
            ),
            id="m1",
        ),
        Message(Role.ASSISTANT, (TextContent("hm"),), MessageType.REASONING),
        Message(Role.ASSISTANT, (TextContent("I look"),)),
        tool_call("look", {"at": "it"}, call_id="c1"),
        tool_call("look", "not JSON", call_id="c2"),
        tool_output("c1", "seen", name="look"),
    ]
    system, human, ai, result = to_langchain(messages)
    assert system.content == "be kind"
    assert human.id == "m1"
    assert human.content == [
        {"type": "text", "text": "see"},
        {"type": "image", "mime_type": "image/jpeg", "base64": "aGk="},
        {"type": "file", "mime_type": "text/plain", "base64": "aGk=", "filename": "a.txt"},
        {"type": "text", "text": '{"degrees": 21}'},
    ]
    assert isinstance(ai, AIMessage)
    assert ai.content == [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "I look"}]
    assert [(call["id"], call["args"]) for call in ai.tool_calls] == [("c1", {"at": "it"})]
    assert [(call["id"], call["args"]) for call in ai.invalid_tool_calls] == [("c2", "not JSON")]
    assert isinstance(result, ToolMessage)
    assert (result.content, result.tool_call_id, result.name) == ("seen", "c1", "look")
    assert all(isinstance(message, BaseMessage) for message in (system, human, ai, result))
