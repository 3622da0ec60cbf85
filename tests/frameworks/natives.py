"""The stream of each framework whose agent creates images, audio and files, and the supported types."""

import base64
from collections.abc import Callable
from typing import Any

from agent_framework import AgentResponseUpdate
from agent_framework import Content as AgentFrameworkContent
from agentscope.message import AssistantMsg, Base64Source, DataBlock
from agno.media import Audio, File, Image
from agno.run.agent import RunCompletedEvent
from autogen_agentchat.messages import MultiModalMessage
from autogen_core import Image as AutoGenImage
from langchain_core.messages import AIMessage
from pydantic_ai.messages import BinaryContent, FilePart, PartStartEvent

Native = tuple[list[Any], set[str]]
ALL = {"image", "audio", "file"}
PDF = "application/pdf"


def agentscope(png: str, wav: str, pdf: str) -> Native:
    def block(data: str, type: str, name: str | None = None) -> DataBlock:
        return DataBlock(source=Base64Source(data=data, media_type=type), name=name)

    blocks = [block(png, "image/png"), block(wav, "audio/wav"), block(pdf, PDF, "a.pdf")]
    return [(AssistantMsg("friday", blocks), True)], ALL


def agno(png: str, wav: str, pdf: str) -> Native:
    decode = base64.b64decode
    completed = RunCompletedEvent(
        images=[Image(content=decode(png), mime_type="image/png")],
        response_audio=Audio(content=decode(wav), mime_type="audio/wav"),
        files=[File(content=decode(pdf), mime_type=PDF, filename="a.pdf")],
    )
    return [completed], ALL


def autogen(png: str, wav: str, pdf: str) -> Native:
    class AsItIs(AutoGenImage):
        """JSON that is written as it was read."""

        @property
        def data_uri(self) -> str:
            return f"data:image/png;base64,{png}"

    picture = AsItIs(AutoGenImage.from_base64(png).image)
    return [MultiModalMessage(content=["See", picture], source="friday")], {"image"}


def langgraph(png: str, wav: str, pdf: str) -> Native:
    blocks: Any = [
        {"type": "image", "base64": png, "mime_type": "image/png"},
        {"type": "audio", "base64": wav, "mime_type": "audio/wav"},
        {"type": "file", "base64": pdf, "mime_type": PDF, "filename": "a.pdf"},
    ]
    return [AIMessage(blocks)], ALL


def ms_agent_framework(png: str, wav: str, pdf: str) -> Native:
    contents = [
        AgentFrameworkContent.from_data(base64.b64decode(data), type, name=name)
        for data, type, name in ((png, "image/png", None), (wav, "audio/wav", None), (pdf, PDF, "a.pdf"))
    ]
    return [AgentResponseUpdate(contents=contents, role="assistant")], ALL


def openai(png: str, wav: str, pdf: str) -> Native:
    picture = {"type": "image_generation_call", "id": "ig", "status": "completed", "result": png}
    chunks = [
        {
            "id": "c",
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": {"audio": {"data": piece}}}],
        }
        for piece in (wav[:8], wav[8:])
    ]
    done = {"type": "response.output_item.done", "sequence_number": 1, "output_index": 0, "item": picture}
    return [done, *chunks], {"image", "audio"}


def pydantic_ai(png: str, wav: str, pdf: str) -> Native:
    parts = [
        FilePart(content=BinaryContent(data=base64.b64decode(data), media_type=type))
        for data, type in ((png, "image/png"), (wav, "audio/wav"), (pdf, PDF))
    ]
    return [PartStartEvent(index=index, part=part) for index, part in enumerate(parts)], ALL


NATIVES: dict[str, Callable[[str, str, str], Native]] = {
    "agentscope": agentscope,
    "agno": agno,
    "autogen": autogen,
    "langgraph": langgraph,
    "ms_agent_framework": ms_agent_framework,
    "openai": openai,
    "pydantic_ai": pydantic_ai,
}
