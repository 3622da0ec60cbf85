"""Search: its time with many memories, and how often it finds the answer to a question.

Memories have 8 to 24 words, most of them common ones. The core opens a database that was filled before,
and is called through gRPC, one call after another. FTS5's own ranking is measured beside Portico's.
"""

import asyncio
import random
import re
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import accumulate
from pathlib import Path

from support.conversations import Conversation, converse

from benchmarks import core
from benchmarks.results import Found, Searched, percentile
from portico.client import Client
from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stores import MemoryRecord, NewMessage, Stores

VOCABULARY = 30_000
CONVERSATIONS = 40
FIRST = 10
BATCH = 1000
WARM = 10

# The number of words of a query, and their place in the vocabulary, most common words first.
QUERIES = {"five words": (5, 5, 3000), "four common words": (4, 0, 20), "the commonest word": (1, 0, 1)}


def crowds(fraction: int) -> tuple[tuple[int, int], ...]:
    """Returns the numbers of users and of memories of each, reduced to one in `fraction`."""
    return (10_000 // fraction, 50), (1, 500_000 // fraction)


def measure(users: int, each: int, searches: int) -> Iterator[Searched]:
    """Fills a database, and searches in the memories of random users."""
    drawn = random.Random(1)
    with tempfile.TemporaryDirectory(prefix="portico-bench-") as name:
        store = f"sqlite:///{name}/portico.db"
        asyncio.run(_fill(store, users, each, drawn))
        with core.running("--store", store) as running:
            for query in QUERIES:
                times = asyncio.run(_ask(running.target, query, users, searches, drawn))
                yield Searched(
                    users=users,
                    memories=each,
                    query=query,
                    median_ms=percentile(times, 50),
                    p99_ms=percentile(times, 99),
                )


async def _ask(target: str, query: str, users: int, searches: int, drawn: random.Random) -> list[float]:
    """Returns the milliseconds of each search, after some searches for warming up."""
    number, first, behind = QUERIES[query]
    times = []
    async with Client(target) as client:
        for _ in range(WARM + searches):
            words = " ".join(f"w{drawn.randrange(first, behind)}" for _ in range(number))
            user = f"u{drawn.randrange(users)}"
            began = time.perf_counter()
            await client.memories.search(words, user_id=user)
            times.append((time.perf_counter() - began) * 1e3)
    return times[WARM:]


async def _fill(store: str, users: int, each: int, drawn: random.Random) -> None:
    vocabulary = [f"w{number}" for number in range(VOCABULARY)]
    weights = list(accumulate(1 / (number + 2) for number in range(VOCABULARY)))
    owners = [f"u{user}" for user in range(users) for _ in range(each)]
    drawn.shuffle(owners)
    stores = await open_stores(store)
    for start in range(0, len(owners), BATCH):
        await stores.memories.add(
            [
                MemoryRecord(
                    f"mem_{number}",
                    owner,
                    "",
                    " ".join(drawn.choices(vocabulary, cum_weights=weights, k=drawn.randrange(8, 25))),
                    number,
                )
                for number, owner in enumerate(owners[start : start + BATCH], start)
            ]
        )
    await stores.close()


def find() -> Iterator[Found]:
    """Measures the quality of the ranking, and of FTS5's."""
    made = [converse(seed) for seed in range(CONVERSATIONS)]
    yield _judged("FTS5's bm25()", made, [_by_fts5(conversation) for conversation in made])
    yield _judged("Portico", made, asyncio.run(_by_portico(made)))


Place = tuple[int, int]


def _judged(ranking: str, made: Sequence[Conversation], found: Sequence[Sequence[Sequence[Place]]]) -> Found:
    ranks = [
        places.index(answer) + 1 if answer in places else None
        for conversation, answers in zip(made, found, strict=True)
        for (_, answer), places in zip(conversation.questions, answers, strict=True)
    ]
    hits = [rank for rank in ranks if rank is not None]
    return Found(
        ranking=ranking,
        questions=len(ranks),
        recall=len(hits) / len(ranks),
        reciprocal_rank=sum(1 / rank for rank in hits) / len(ranks),
    )


def _by_fts5(conversation: Conversation) -> list[list[Place]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            "CREATE VIRTUAL TABLE turns USING fts5(text, session UNINDEXED, turn UNINDEXED,"
            " tokenize = 'porter unicode61 remove_diacritics 2')"
        )
        for number, turns in enumerate(conversation.sessions):
            rows = [(text, number, turn) for turn, text in enumerate(turns)]
            connection.executemany("INSERT INTO turns VALUES (?, ?, ?)", rows)
        best = f"SELECT session, turn FROM turns WHERE turns MATCH ? ORDER BY rank, rowid DESC LIMIT {FIRST}"
        return [
            connection.execute(
                best, (" OR ".join(f'"{word}"' for word in re.findall(r"\w+", question)),)
            ).fetchall()
            for question, _ in conversation.questions
        ]


def _any_word(question: str) -> str:
    return " OR ".join(f'"{word}"' for word in re.findall(r"\w+", question))


async def _by_portico(made: Sequence[Conversation]) -> list[list[list[Place]]]:
    with tempfile.TemporaryDirectory(prefix="portico-bench-") as name:
        stores = await open_stores(f"sqlite:///{Path(name)}/portico.db")
        found = [await _answers(stores, f"u{number}", one) for number, one in enumerate(made)]
        await stores.close()
    return found


async def _answers(stores: Stores, user: str, conversation: Conversation) -> list[list[Place]]:
    for number, turns in enumerate(conversation.sessions):
        await stores.sessions.create(user, f"{number}", "")
        said = [
            NewMessage(user, f"{number}", f"{turn}", "user", text, b"", 1) for turn, text in enumerate(turns)
        ]
        await stores.sessions.append(user, f"{number}", said)
    answers = []
    for question, _ in conversation.questions:
        hits = await stores.sessions.search(user, question, None, FIRST)
        answers.append([(int(hit.message.session_id), int(hit.message.message_id)) for hit in hits])
    return answers
