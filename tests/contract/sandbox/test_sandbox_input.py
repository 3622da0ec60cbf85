"""input() and getpass() in cells: the caller gets a prompt, and answers it in the same call."""

import asyncio
from contextlib import aclosing

import pytest

from portico.sandbox import errors
from portico.sandbox.events import CellEnd, CellEvent, CellInput, Rich, Stdout
from portico.sandbox.handle.sandbox_handle import SandboxHandle

ASKING = """
import getpass
print('before', end='')
name = input('Name? ')
secret = getpass.getpass('Secret: ')
display(1)
(name, secret, input())"""


async def run(
    box: SandboxHandle, code: str, *answers: str | None, timeout: float | None = None
) -> list[CellEvent]:
    """Run a cell and answer its prompts in order; return its events."""
    left, events = list(answers), []
    async with aclosing(box.stream_cell(code, timeout, allow_input=True)) as stream:
        async for event in stream:
            events.append(event)
            if isinstance(event, CellInput) and left:
                await event.answer(left.pop(0))
    return events


def end(events: list[CellEvent]) -> CellEnd:
    assert isinstance(events[-1], CellEnd)
    return events[-1]


async def test_a_cell_asks_the_caller_who_answers(box: SandboxHandle) -> None:
    events = await run(box, ASKING, "Änn 😀", "s3cret", "")
    assert end(events).error is None
    asked = [(event.prompt, event.password) for event in events if isinstance(event, CellInput)]
    assert asked == [("Name? ", False), ("Secret: ", True), ("", False)]
    assert events[0] == Stdout(b"before"), "what was printed before comes before the question"
    shown = [event.data["text/plain"].decode() for event in events if isinstance(event, Rich)]
    assert shown == ["1", "('Änn 😀', 's3cret', '')"]
    events = await run(box, "try:\n    input()\nexcept EOFError as e:\n    print(e)", None)
    assert Stdout(b"EOF when reading a line\n") in events
    assert end(await run(box, "x = input()\nassert len(x) == 59_000", "x" * 59_000)).error is None


async def test_who_cannot_answer_is_told_so(box: SandboxHandle) -> None:
    for code in ("input()", "from getpass import getpass\ngetpass()"):
        error = (await box.run_cell(code)).end.error
        assert error is not None
        assert error.name == "EOFError"
        assert "allow_input" in error.message
    events = await run(
        box,
        """
import os, threading
def ask():
    try: input()
    except EOFError as e: print(e)
t = threading.Thread(target=ask); t.start(); t.join()
if os.fork() == 0:
    ask()
else:
    os.wait();""",
    )
    said = b"".join(event.data for event in events if isinstance(event, Stdout))
    assert said == b"only the cell's own thread can ask for input\n" * 2


async def test_a_question_ends_with_its_cell(box: SandboxHandle) -> None:
    await box.run_cell("kept = 1")
    events = await run(box, "input('?')", timeout=0.5)
    failure = end(events).failure
    assert isinstance(failure, errors.SandboxTimeout)
    assert not failure.kernel_lost
    asked = next(event for event in events if isinstance(event, CellInput))
    await asked.answer("too late")  # dropped
    with pytest.raises(errors.InvalidRequest, match="input"):
        await asked.answer("x" * 70_000)
    assert (await box.run_cell("kept")).rich[0].data["text/plain"] == b"1"

    async def first_event() -> CellEvent:
        async with aclosing(box.stream_cell("input()", allow_input=True)) as stream:
            return await anext(stream)

    assert isinstance(await first_event(), CellInput)  # the reader then leaves the cell
    again = "try:\n    input()\nexcept KeyboardInterrupt:\n    pass\ndisplay(2)\nkept"
    assert isinstance(end(await run(box, again, timeout=0.5)).failure, errors.SandboxTimeout)
    assert (await box.run_cell("kept")).rich[0].data["text/plain"] == b"1"


async def test_answers_that_nobody_waits_for_change_nothing(box: SandboxHandle) -> None:
    async with aclosing(
        box.stream_cell("a = input('a')\nb = input('b')\n(a, b)", allow_input=True)
    ) as stream:
        asked = await anext(stream)
        assert isinstance(asked, CellInput)
        for text in ("1", "2", "3"):
            await asked.answer(text)
        events = []
        async for event in stream:
            events.append(event)
            if isinstance(event, CellInput):
                await asyncio.sleep(0.2)
                await event.answer("4")
    assert end(events).error is None
    shown = [event.data["text/plain"] for event in events if isinstance(event, Rich)]
    assert shown[0].startswith(b"('1', ")
    assert (await box.run_cell("1 + 1")).rich[0].data["text/plain"] == b"2"


async def test_forged_questions_end_the_kernel(box: SandboxHandle) -> None:
    frame = "import json, os, struct\ndef ask(**question):\n    data = json.dumps(question).encode()\n"
    frame += "    os.write(900, struct.pack('!I', len(data)) + data)\n"
    for question in ("ask=1, prompt='?', password=False", "ask='1', prompt='', password=0"):
        result = await box.run_cell(f"{frame}ask({question})\nimport time; time.sleep(20)", timeout=10)
        assert isinstance(result.end.failure, errors.KernelDied), "a call that allows no input"
    flood = f"{frame}for n in range(1, 1 << 30): ask(ask=n, prompt='?' * 4000, password=False)"
    failure = end(await run(box, flood, timeout=20)).failure
    assert isinstance(failure, errors.LimitExceeded | errors.KernelDied | errors.SandboxTimeout)
