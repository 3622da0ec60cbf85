"""Kinds of traced work."""

from typing import ClassVar


class TraceType(str):
    """A kind of work: a predefined one, an added one, or any text."""

    __slots__ = ()

    LLM: ClassVar["TraceType"]
    TOOL: ClassVar["TraceType"]
    AGENT_STEP: ClassVar["TraceType"]
    MEMORY: ClassVar["TraceType"]
    SEARCH: ClassVar["TraceType"]
    AIGC: ClassVar["TraceType"]
    RAG: ClassVar["TraceType"]
    INTENTION: ClassVar["TraceType"]
    PLUGIN: ClassVar["TraceType"]
    FUNCTION_CALL: ClassVar["TraceType"]
    AGENT: ClassVar["TraceType"]
    PLANNING: ClassVar["TraceType"]
    CHAIN: ClassVar["TraceType"]
    RETRIEVER: ClassVar["TraceType"]
    RERANKER: ClassVar["TraceType"]
    EMBEDDING: ClassVar["TraceType"]
    TASK: ClassVar["TraceType"]
    GUARDRAIL: ClassVar["TraceType"]
    REWRITER: ClassVar["TraceType"]
    OTHER: ClassVar["TraceType"]

    def __repr__(self) -> str:
        return f"TraceType({self!s})"

    @classmethod
    def add_type(cls, name: str, value: str) -> None:
        """Adds a kind of work. Raises ValueError if the name exists."""
        if hasattr(cls, name):
            raise ValueError(f"the trace type {name} exists already")
        setattr(cls, name, cls(value))


for _name in tuple(TraceType.__annotations__):
    setattr(TraceType, _name, TraceType(_name))
