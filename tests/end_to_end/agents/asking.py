"""Agents of every kind that ask twice; the tests restart their core between the questions."""

from collections.abc import AsyncGenerator, Generator
from typing import Any

from portico.agent import AgentApp, Context

by_yield = AgentApp("by-yield")
by_await = AgentApp("by-await")
in_thread = AgentApp("in-thread")
generator = AgentApp("generator")
worker = AgentApp("worker", isolation="process")
again = AgentApp("again", on_restart="rerun")
strict = AgentApp("strict", on_restart="fail")
quick = AgentApp("quick")
manager = AgentApp("manager")
manager_apart = AgentApp("manager-apart", isolation="process")


@by_yield.query
@worker.query
@again.query
@strict.query
async def yielding(context: Context) -> AsyncGenerator[Any, Any]:
    yield "Hello. "
    first = yield context.input_required("First?")
    second = yield context.input_required("Second?")
    yield f"{first[0].text} and {second[0].text}"


@by_await.query
async def awaiting(context: Context) -> str:
    first = await context.input_required("First?")
    second = await context.auth_required("Second?")
    return f"{first[0].text} and {second[0].text}"


@in_thread.query
def waiting(context: Context) -> str:
    first = context.input_required("First?").wait()
    second = context.input_required("Second?").wait()
    return f"{first[0].text} and {second[0].text}"


@generator.query
def generating(context: Context) -> Generator[Any, Any, Any]:
    first = yield context.input_required("First?")
    second = yield context.input_required("Second?")
    yield f"{first[0].text} and {second[0].text}"


@manager.query
@manager_apart.query
async def delegating(context: Context) -> AsyncGenerator[Any, Any]:
    yield "I ask somebody. "
    child = await context.start_run("go", agent_name="worker")
    result = await child.result()
    yield f"{result.status}: {result.text}"


@quick.query
async def saying() -> str:
    return "done"
