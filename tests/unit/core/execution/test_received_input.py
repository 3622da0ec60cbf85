"""Received input: each attempt gets the answers of earlier attempts, each of them once."""

import pytest

from portico.agent import Message, Role, TextContent
from portico.core.convert.events import ProtoEncoder
from portico.core.errors import LimitExceeded
from portico.core.execution import received_input as module
from portico.core.execution.received_input import ReceivedInput


def said(text: str) -> list[Message]:
    return [Message(Role.USER, (TextContent(text),))]


def texts(messages: object) -> list[str]:
    return [message.text for message in messages]  # type: ignore[attr-defined]


def loaded(payload: bytes) -> ReceivedInput:
    answers = ReceivedInput(ProtoEncoder())
    answers.load(payload)
    return answers


def test_a_first_attempt_has_no_answers() -> None:
    for answers in (ReceivedInput(ProtoEncoder()), loaded(b"")):
        assert (answers.is_repeat, answers.mark_delivered) == (False, False)
        assert answers.steered == []


def test_another_attempt_gets_the_answers_of_the_one_before_in_order() -> None:
    first = ReceivedInput(ProtoEncoder())
    first.question()
    first.add(said("one"))
    first.question()
    payload = first.add(said("two"))
    second = loaded(payload)
    for text in ("one", "two"):
        assert (second.is_repeat, second.mark_delivered) == (True, True)
        assert texts(second.repeat()) == [text]
    assert (second.is_repeat, second.mark_delivered) == (False, False)
    second.question()
    third = loaded(second.add(said("three")))
    assert [texts(third.repeat()) for _ in range(3)] == [["one"], ["two"], ["three"]]


def test_a_question_that_was_open_is_introduced_and_has_no_answer() -> None:
    first = ReceivedInput(ProtoEncoder())
    first.question()
    first.add(said("one"))
    second = loaded(first.question())
    assert texts(second.repeat()) == ["one"]
    assert (second.is_repeat, second.mark_delivered) == (False, True)
    # It stays open in every later record, until it is answered.
    third = loaded(second.add_steering(said("meanwhile")))
    third.repeat()
    assert (third.is_repeat, third.mark_delivered) == (False, True)
    fourth = loaded(third.add(said("two")))
    assert [texts(fourth.repeat()) for _ in range(2)] == [["one"], ["two"]]
    assert not fourth.mark_delivered
    assert texts(fourth.steered) == ["meanwhile"]


def test_what_a_run_is_told_meanwhile_is_kept_in_order_and_is_no_answer() -> None:
    first = ReceivedInput(ProtoEncoder())
    first.add_steering(said("left"))
    payload = first.add_steering([*said("right"), *said("on")])
    again = loaded(payload)
    assert texts(again.steered) == ["left", "right", "on"]
    assert (again.is_repeat, again.mark_delivered) == (False, False)
    again.question()
    assert texts(loaded(again.add(said("yes"))).steered) == ["left", "right", "on"]


def test_a_run_is_told_so_much_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ReceivedInput(ProtoEncoder())
    size = len(answers.add_steering(said("x" * 50)))
    monkeypatch.setattr(module, "STEERED_BYTES", size)
    same = ReceivedInput(ProtoEncoder())
    assert len(same.add_steering(said("x" * 50))) == size
    monkeypatch.setattr(module, "STEERED_BYTES", size - 1)
    less = ReceivedInput(ProtoEncoder())
    with pytest.raises(LimitExceeded) as caught:
        less.add_steering(said("x" * 50))
    assert caught.value.metadata["limit"] == "steered_bytes"
    assert less.steered == []


def test_a_question_that_was_answered_is_open_no_more() -> None:
    first = ReceivedInput(ProtoEncoder())
    first.question()
    first.add(said("one"))
    again = loaded(first.add_steering(said("meanwhile")))
    assert texts(again.repeat()) == ["one"]
    assert (again.is_repeat, again.mark_delivered) == (False, False)
