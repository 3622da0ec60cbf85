"""A librarian: reads a folder of texts, finds the passages that answer a question, and says where they are.

    portico run examples/librarian.py

LIBRARY names another folder of .txt and .md files. With OPENAI_API_KEY (and
OPENAI_BASE_URL and OPENAI_MODEL, if set) a model answers from the passages;
without it the passages themselves are the answer.
"""

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

from portico.agent import AgentApp, Context, Message, Remembered, Skill, usage

FOLDER = Path(os.environ.get("LIBRARY") or Path(__file__).parent / "library")
MODEL = os.environ.get("OPENAI_MODEL", "gpt-4.1-mini")

app = AgentApp(
    "librarian",
    description="Answers questions from a folder of texts and names its sources.",
    on_restart="rerun",
    skills=[Skill("search", "Search the library", "Finds passages and their sources", ("search", "library"))],
)


@app.init
async def init(self: Any) -> None:
    self.model = None
    self.loading = asyncio.Lock()
    self.loaded = False
    if os.environ.get("OPENAI_API_KEY"):
        from openai import AsyncOpenAI

        self.model = AsyncOpenAI()


@app.query
async def query(self: Any, msgs: Sequence[Message], context: Context) -> AsyncIterator[object]:
    question = msgs[-1].text
    async with self.loading:
        if not self.loaded:
            await load(context)
            self.loaded = True
    passages = await context.agent_memory.search(question, top_k=3)
    if not passages:
        yield f"I found nothing about that in {FOLDER.name}/. Ask me about: {', '.join(titles())}."
    elif self.model is None:
        yield "This is what the library says.\n\n"
        for passage in passages:
            for word in re.findall(r"\S+\s*", passage.text):
                yield word
            yield f"\n  -- {passage.metadata['source']}\n\n"
    else:
        async for item in answer(self.model, question, passages):
            yield item


@app.shutdown
async def shutdown(self: Any) -> None:
    if self.model is not None:
        await self.model.close()


@app.endpoint("/titles", methods=["GET"])
def titles() -> list[str]:
    """The texts of the library."""
    return [path.stem for path in files()]


async def answer(model: Any, question: str, passages: Sequence[Remembered]) -> AsyncIterator[object]:
    """Let the model answer from the passages, and from nothing else."""
    sources = "\n\n".join(f"[{passage.metadata['source']}]\n{passage.text}" for passage in passages)
    stream = await model.chat.completions.create(
        model=MODEL,
        stream=True,
        stream_options={"include_usage": True},
        messages=[
            {"role": "system", "content": f"Answer from these passages and name their sources.\n\n{sources}"},
            {"role": "user", "content": question},
        ],
    )
    try:
        async for chunk in stream:
            if chunk.usage is not None:
                yield usage(
                    input_tokens=chunk.usage.prompt_tokens, output_tokens=chunk.usage.completion_tokens
                )
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content
    finally:
        await stream.close()


async def load(context: Context) -> None:
    """Bring the agent's memory in line with the folder."""
    wanted = {
        hashlib.sha256(f"{source}\n{text}".encode()).hexdigest(): (source, text) for source, text in read()
    }
    for known in await context.agent_memory.list(limit=10_000):
        if wanted.pop(known.metadata["digest"], None) is None:
            await context.agent_memory.delete(known.memory_id)
    for key, (source, text) in wanted.items():
        await context.agent_memory.add(text, metadata={"source": source, "digest": key})


def digest(source: str, text: str) -> str:
    return hashlib.sha256(f"{source}\n{text}".encode()).hexdigest()


def files() -> list[Path]:
    return sorted(path for path in FOLDER.rglob("*") if path.suffix in (".txt", ".md"))


def read() -> Iterator[tuple[str, str]]:
    """The paragraphs of all texts, with the line that they begin in."""
    for path in files():
        line = 1
        for part in re.split(r"(\n\s*\n)", path.read_text(encoding="utf-8")):
            if part.strip():
                yield f"{path.relative_to(FOLDER)}:{line}", part.strip()
            line += part.count("\n")


if __name__ == "__main__":
    app.run()
