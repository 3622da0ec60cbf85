"""Translation of logs to tasks: the same result from any position, in any grouping, and after a crash."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from a2a.types import a2a_pb2 as a2a
from support.a2a_gateways import running_core

from portico.client import Client
from portico.gateways.a2a.tasks.translator import TaskTranslator, Update
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2


async def log(directory: Path, words: str, answer: str = "") -> tuple[query_pb2.AgentRequest, list[pb.Event]]:
    """A run's request and its events."""
    async with running_core(directory), Client(f"unix:{directory}/core.sock") as client:
        run = (await client.runs.start(words)).response.id
        async with client.runs.watch(run) as stream:
            events = [event async for event in stream]
        if answer:
            resumed = await client.runs.resume(run, answer)
            async with client.runs.watch(run, after=resumed.last_sequence_number) as stream:
                events += [event async for event in stream]
        return (await client.runs.get(run)).request, events


def said(artifacts: Sequence[a2a.Artifact]) -> list[tuple[str, list[str]]]:
    """Returns the artifacts as a reader sees them, with neighbouring texts joined."""
    told = []
    for artifact in artifacts:
        parts: list[str] = []
        before = ""
        for part in artifact.parts:
            kind = str(part.WhichOneof("content"))
            if kind == "text" and before == "text":
                parts[-1] += part.text
            else:
                parts.append(
                    part.text if kind == "text" else part.SerializeToString(deterministic=True).hex()
                )
            before = kind
        told.append((artifact.artifact_id, parts))
    return told


def apply(task: a2a.Task, update: Update) -> None:
    """Applies an update as a client does."""
    if isinstance(update, a2a.TaskStatusUpdateEvent):
        task.status.CopyFrom(update.status)
        return
    known = next((item for item in task.artifacts if item.artifact_id == update.artifact.artifact_id), None)
    if known is None:
        assert not update.append
        task.artifacts.append(update.artifact)
    elif update.append:
        known.parts.extend(update.artifact.parts)
    else:
        known.CopyFrom(update.artifact)


@pytest.mark.parametrize(
    ("words", "answer"), [("count 4", ""), ("rich", ""), ("ask", "Rome"), ("boom", ""), ("refuse", "")]
)
async def test_a_task_and_what_follows_make_the_end_from_any_place_on(
    tmp_path: Path, words: str, answer: str
) -> None:
    asked, events = await log(tmp_path, words, answer)
    whole = TaskTranslator(asked)
    for event in events:
        whole.add_event(event)
    end = whole.task()
    for cut in range(1, len(events) + 1):
        translator = TaskTranslator(asked)
        for event in events[:cut]:
            translator.add_event(event, telling=False)
        task = translator.task()
        translator.forget()
        for event in events[cut:]:
            for update in translator.add_event(event):
                apply(task, update)
        assert said(task.artifacts) == said(end.artifacts)
        assert task.status == end.status


async def test_an_attempt_voids_what_was_said_before(tmp_path: Path) -> None:
    asked, events = await log(tmp_path, "count 2")
    translator = TaskTranslator(asked)
    for event in events[:-1]:
        translator.add_event(event)
    assert translator.task().artifacts
    again = pb.Event(sequence_number=len(events) - 1)
    again.response.CopyFrom(events[1].response)
    again.response.attempt = 2
    *_, update = translator.add_event(again)
    assert isinstance(update, a2a.TaskStatusUpdateEvent)
    assert (update.status.state, update.metadata["attempt"]) == (a2a.TASK_STATE_WORKING, 2)
    assert not translator.task().artifacts
    assert len(translator.task().history) == 1


@pytest.mark.parametrize("words", ["count 3", "rich"])
async def test_a_reader_takes_a_void_attempt_back_wherever_both_began(tmp_path: Path, words: str) -> None:
    asked, events = await log(tmp_path, words)
    for crash in range(2, len(events)):
        first, second = (
            events[:crash],
            [pb.Event.FromString(event.SerializeToString()) for event in events[1:]],
        )
        for event in second:  # another attempt has its own ids
            event.sequence_number += crash
            if event.HasField("response"):
                event.response.attempt = 2
            if event.HasField("message"):
                event.message.id += "_2"
            elif event.HasField("content"):
                event.content.msg_id += "_2"
        whole = TaskTranslator(asked)
        for event in (*first, *second):
            whole.add_event(event)
        right = [(id, parts) for id, parts in said(whole.task().artifacts) if any(parts)]
        assert all(id.endswith("_2") for id, _ in right)
        ids = [message.message_id for message in whole.task().history]
        assert all(id.endswith("_2") for id in ids[1:]), "a void thought is in the history"
        for cut in (1, crash // 2 + 1, crash):
            translator = TaskTranslator(asked)
            for event in (*first, *second)[:cut]:
                translator.add_event(event, telling=False)
            task = translator.task()
            translator.forget()
            for event in (*first, *second)[cut:]:
                for update in translator.add_event(event):
                    apply(task, update)
            assert [(id, parts) for id, parts in said(task.artifacts) if parts != [""]] == right


@pytest.mark.parametrize("accepted", [[], ["text"], ["application/json"], ["image/*", "text/plain"]])
async def test_every_chunk_has_a_part(tmp_path: Path, accepted: list[str]) -> None:
    asked, events = await log(tmp_path, "rich")
    asked.accepted_output_modes.extend(accepted)
    translator = TaskTranslator(asked)
    for event in events:
        for update in translator.add_event(event):
            if isinstance(update, a2a.TaskArtifactUpdateEvent):
                assert update.artifact.parts
            elif update.status.HasField("message"):
                assert update.status.message.parts
