"""A LangGraph agent with a tool; its thread is stored in the session's state."""

from collections.abc import AsyncGenerator
from typing import Any

from common import MODEL_URL, weather
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import interrupt

from portico.agent import AgentApp

langgraph = AgentApp("langgraph", "looks at the weather with LangGraph")


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return weather(city)


@tool
def book(city: str) -> str:
    """Book a journey."""
    answer = interrupt({"question": f"Book {city}?"})
    return f"booked {city}: {answer}"


TOOLS = [get_weather, book]
MODEL = ChatOpenAI(
    model="scripted",
    base_url=MODEL_URL,
    api_key="none",  # type: ignore[arg-type]
    max_retries=0,
    use_responses_api=True,
).bind_tools(TOOLS)


async def think(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await MODEL.ainvoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("think", think)
builder.add_node("tools", ToolNode(TOOLS))
builder.add_edge(START, "think")
builder.add_conditional_edges("think", tools_condition, {"tools": "tools", END: END})
builder.add_edge("tools", "think")


@langgraph.query(framework="langgraph")
async def query(input: Any, config: Any, checkpointer: Any, store: Any) -> AsyncGenerator[Any, None]:
    graph = builder.compile(checkpointer=checkpointer, store=store)
    async for chunk in graph.astream(input, config, stream_mode=["messages", "updates"]):
        yield chunk
