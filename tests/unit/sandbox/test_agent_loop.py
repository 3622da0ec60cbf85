"""The event loop of the supervisor."""

import os

from portico.sandbox.inside.loop import READ, Loop


def test_what_was_ready_is_not_told_to_who_gets_its_number() -> None:
    """Otherwise process 1 would read from an empty pipe, and wait for its own thread."""
    loop = Loop()
    loop.open()
    pipes = [os.pipe() for _ in range(2)]
    told: list[int] = []

    def first(_events: int) -> None:
        """Closes both pipes, and watches another one with the descriptor number of the second."""
        for reader, writer in pipes:
            loop.forget(reader)
            os.close(reader)
            os.close(writer)
        fresh.extend(os.pipe())
        fresh.extend(os.pipe())
        for fd in fresh:
            loop.watch(fd, READ, told.append)

    fresh: list[int] = []
    for reader, writer in pipes:
        os.write(writer, b"x")
        loop.watch(reader, READ, first)
    loop.turn()
    assert {reader for reader, _ in pipes} <= set(fresh)
    assert told == []
    os.write(fresh[1], b"x")
    loop.turn()
    assert told == [READ]
    for fd in fresh:
        loop.forget(fd)
        os.close(fd)
    loop.close()
