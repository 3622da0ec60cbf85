"""A LangGraph agent whose tool is another agent, a Pydantic AI one, over A2A."""

from collections.abc import AsyncGenerator
from typing import Any

from common import MODEL_URL
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic_ai_agent import pydantic_ai

from portico.agent import AgentApp, Context

__all__ = ["asker", "pydantic_ai"]
asker = AgentApp("asker", "asks a colleague")


@asker.query(framework="langgraph")
async def query(input: Any, context: Context) -> AsyncGenerator[Any, None]:
    url = context.request.input[-1].text.rpartition(" ")[2]

    @tool
    async def ask(question: str) -> str:
        """Ask the colleague."""
        return (await context.a2a(url).send(question)).text

    model = ChatOpenAI(model="scripted", base_url=MODEL_URL, api_key="none", max_retries=0)
    bound = model.bind_tools([ask])

    async def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await bound.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("think", think)
    builder.add_node("tools", ToolNode([ask]))
    builder.add_edge(START, "think")
    builder.add_conditional_edges("think", tools_condition, {"tools": "tools", END: END})
    builder.add_edge("tools", "think")
    async for chunk in builder.compile().astream(input, stream_mode="messages"):
        yield chunk
