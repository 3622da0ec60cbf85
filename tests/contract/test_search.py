"""Search ranks identically in every store, and depends only on the owner's own data."""

import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from support.conversations import converse

from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stores import MemoryRecord, NewMessage, Stores
from portico.core.stores.search import ranking

VOCABULARY = (
    "penguin",
    "herring",
    "ice",
    "lamp",
    "Lisbon",
    "violin",
    "1,000",
    "follow-up",
    "東京タワー",
    "ёлка",
    "the",
)
QUERIES = [
    "penguin",
    "penguins on ice",
    "the violins in Lisbon",
    "followup 1000",
    "東京",
    "елка lamps",
    "the",
]

Found = list[tuple[str, float]]


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Sequence[Stores]]:
    opened = [await open_stores(url) for url in ("memory://", f"sqlite:///{tmp_path}/both.db")]
    yield opened
    for stores in opened:
        await stores.close()


async def fill(
    stores: Stores, owner: str, number: int, seed: int = 0, words: Sequence[str] = VOCABULARY
) -> None:
    """Memories and messages of random words, reproducible by the seed."""
    drawn = random.Random(seed)
    texts = [" ".join(drawn.choices(words, k=drawn.randrange(1, 12))) for _ in range(number)]
    await stores.memories.add(
        [MemoryRecord(f"{owner}{n}", owner, f"s{n % 3}", text, n, "") for n, text in enumerate(texts)]
    )
    for session in ("s0", "s1", "s2"):
        await stores.sessions.create(owner, session, "")
    for n, text in enumerate(texts):
        said = NewMessage(owner, f"s{n % 3}", f"m{n}", "user", text, text.encode(), n)
        await stores.sessions.append(owner, f"s{n % 3}", [said])


async def search(
    stores: Stores, owner: str, query: str, session_id: str | None = None
) -> tuple[Found, Found]:
    memories = await stores.memories.search(owner, query, 1000, session_id)
    messages = await stores.sessions.search(owner, query, session_id, 1000)
    return (
        [(hit.memory.memory_id, hit.score) for hit in memories],
        [(hit.message.message_id, hit.score) for hit in messages],
    )


@pytest.mark.parametrize("most", [ranking.MAX_SCORED, 20])
async def test_every_store_gives_the_same_hits_scores_and_order(
    both: Sequence[Stores], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "MAX_SCORED", most)
    for stores in both:
        await fill(stores, "ada", 150)
        await fill(stores, "bob", 50, seed=1)
        await stores.memories.delete("ada", None, "ada7")
        await stores.sessions.remove("ada", "s1", "m7")
        await stores.sessions.delete("ada", "s2")
    for query in QUERIES:
        for session_id in (None, "s0", "s2"):
            one, other = [await search(stores, "ada", query, session_id) for stores in both]
            assert one == other
            assert any(one) or session_id == "s2"


@pytest.mark.parametrize("query", QUERIES)
async def test_what_others_have_changes_no_hit_score_or_order(stores: Stores, query: str) -> None:
    await fill(stores, "ada", 60)
    before = await search(stores, "ada", query)
    assert any(before)
    # Other users add the same words, but never the most important word of the query.
    await fill(stores, "bob", 100)
    await fill(stores, "eve", 100, seed=2, words=["violin", "penguin", "unheard"])
    assert await search(stores, "ada", query) == before
    await stores.memories.delete("bob", None, None)
    await stores.sessions.delete("eve", "s0")
    assert await search(stores, "ada", query) == before


async def test_scores_do_not_tell_which_words_others_have(stores: Stores) -> None:
    await fill(stores, "ada", 50, words=["secret", "filler"])
    guesses = ["secret", "unheard"]
    await stores.memories.add(
        [MemoryRecord(f"e{guess}", "eve", "", f"a {guess} guess", 1, "") for guess in guesses]
    )
    one, other = [(await stores.memories.search("eve", guess, 1))[0].score for guess in guesses]
    assert one == other


async def test_a_word_that_half_of_few_texts_have_has_weight(stores: Stores) -> None:
    texts = ["the penguin eats", "the penguin sleeps", "a lamp", "a violin"]
    await stores.memories.add([MemoryRecord(text, "ada", "", text, 1, "") for text in texts])
    hits = await stores.memories.search("ada", "penguin", 10)
    assert len(hits) == 2
    assert min(hit.score for hit in hits) > 0.3


async def test_of_more_texts_than_are_scored_those_with_rare_words_and_the_newest_are(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "MAX_SCORED", 10)
    texts = [f"penguin number{n}" + " walrus" * (n < 3) for n in range(100)]
    await stores.memories.add(
        [MemoryRecord(f"m{n}", "ada", f"s{n % 2}", text, n, "") for n, text in enumerate(texts)]
    )

    async def found(query: str, session_id: str | None = None) -> list[str]:
        return [hit.memory.memory_id for hit in await stores.memories.search("ada", query, 10, session_id)]

    assert await found("penguin") == [f"m{n}" for n in range(99, 89, -1)]
    assert await found("penguin", "s1") == [f"m{n}" for n in range(99, 79, -2)]
    assert (await found("penguin walrus"))[:3] == ["m2", "m1", "m0"]
    assert (await found("penguin number42"))[0] == "m42"


async def test_an_answer_is_found_by_the_words_of_its_question(stores: Stores) -> None:
    await stores.sessions.create("ada", "s1", "")
    texts = ["Which city do you move to?", "", "Lisbon, in May.", "Nice!"]
    await stores.sessions.append(
        "ada", "s1", [NewMessage("ada", "s1", f"m{n}", "user", text, b"", 1) for n, text in enumerate(texts)]
    )
    hits = await stores.sessions.search("ada", "moving city", None, 10)
    assert [hit.message.message_id for hit in hits] == ["m0", "m2"]
    assert hits[1].score == pytest.approx(ranking.PRECEDING_MATCH_WEIGHT * hits[0].score)
    await stores.sessions.remove("ada", "s1", "m0")
    assert await stores.sessions.search("ada", "moving city", None, 10) == []


async def test_an_answer_of_one_role_is_found_by_a_question_of_another(stores: Stores) -> None:
    await stores.sessions.create("ada", "s1", "")
    said = [("user", "Which city?"), ("assistant", "Lisbon."), ("user", "Why that city?"), ("tool", "Sun.")]
    await stores.sessions.append(
        "ada", "s1", [NewMessage("ada", "s1", f"m{n}", role, t, b"", 1) for n, (role, t) in enumerate(said)]
    )

    async def found(*roles: str) -> list[str]:
        hits = await stores.sessions.search("ada", "city", None, 10, roles=roles)
        return sorted(hit.message.message_id for hit in hits)

    assert await found() == ["m0", "m1", "m2", "m3"]
    assert await found("assistant") == ["m1"]
    assert await found("tool", "user") == ["m0", "m2", "m3"]
    assert await found("system") == []


# For comparison, FTS5 with bm25() over the whole table found 56.8 of 100.
async def test_the_answers_of_made_conversations_are_among_the_first_ten(stores: Stores) -> None:
    found = asked = 0
    for seed in range(6):
        conversation, user = converse(seed), f"user{seed}"
        for number, turns in enumerate(conversation.sessions):
            name = f"s{number}"
            await stores.sessions.create(user, name, "")
            said = [NewMessage(user, name, f"{number}-{n}", "user", t, b"", 1) for n, t in enumerate(turns)]
            await stores.sessions.append(user, name, said)
        for question, (session, turn) in conversation.questions:
            hits = await stores.sessions.search(user, question, None, 10)
            asked += 1
            found += f"{session}-{turn}" in {hit.message.message_id for hit in hits}
    assert found / asked > 0.7
