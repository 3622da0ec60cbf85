import asyncio
from collections.abc import Sequence

import pytest

from portico.core.errors import MessageNotFound, SessionExists, SessionNotFound
from portico.core.stores.ports.stores import (
    Commit,
    NewMessage,
    NewSession,
    SessionStore,
    StoredMessage,
    Stores,
)

HOSTILE = [
    '"',
    '" OR *',
    "NEAR(",
    "text:",
    "owner : x",
    "a AND",
    "NOT",
    "*",
    "^",
    "{a b} : c",
    "'; --",
    "(",
    "-",
    "\x00",
]


@pytest.fixture
def sessions(stores: Stores) -> SessionStore:
    return stores.sessions


def message(
    message_id: str,
    text: str = "",
    *,
    user_id: str = "ada",
    session_id: str = "s1",
    created_at: float = 1.5,
    payload: bytes = b"payload\x00",
) -> NewMessage:
    return NewMessage(user_id, session_id, message_id, "user", text, payload, created_at, "r1")


async def commit(stores: Stores, message: NewMessage) -> None:
    """The first commit of a run."""
    session = NewSession(message.user_id, message.session_id, message.created_at)
    await stores.runs.commit(Commit(messages=[message], sessions=[session]))


async def tell(sessions: SessionStore, *texts: str, user_id: str = "ada", session_id: str = "s1") -> None:
    """Append each text as a message whose id is the text."""
    try:
        await sessions.create(user_id, session_id, "")
    except SessionExists:
        pass  # appends further messages
    await sessions.append(user_id, session_id, [message(text, text) for text in texts])


async def found(
    sessions: SessionStore,
    query: str,
    *,
    user_id: str = "ada",
    session_id: str | None = None,
    limit: int = 10,
) -> list[str]:
    return [hit.message.message_id for hit in await sessions.search(user_id, query, session_id, limit)]


def ids(messages: Sequence[StoredMessage]) -> list[str]:
    return [stored.message_id for stored in messages]


async def test_a_new_session_is_empty(sessions: SessionStore) -> None:
    created = await sessions.create("ada", "séance", '{"a": 1}')
    assert (created.user_id, created.session_id, created.metadata) == ("ada", "séance", '{"a": 1}')
    assert created.message_count == 0
    assert created.created_at == created.updated_at > 1_600_000_000
    assert await sessions.get("ada", "séance") == created
    assert await sessions.messages("ada", "séance", None, 10, False) == []


async def test_a_session_is_made_once_per_user(sessions: SessionStore) -> None:
    await sessions.create("ada", "s1", "")
    with pytest.raises(SessionExists) as caught:
        await sessions.create("ada", "s1", "{}")
    assert caught.value.metadata == {"session_id": "s1"}
    await sessions.create("bob", "s1", "")
    assert (await sessions.get("ada", "s1")).metadata == ""


async def test_of_many_who_make_a_session_at_once_one_does(sessions: SessionStore) -> None:
    results = await asyncio.gather(
        *(sessions.create("ada", "s1", "") for _ in range(10)), return_exceptions=True
    )
    assert sum(isinstance(result, SessionExists) for result in results) == 9


async def test_an_unknown_session_is_not_found_by_anything(sessions: SessionStore) -> None:
    await sessions.create("ada", "s1", "")
    for user_id, session_id in (("ada", "nope"), ("bob", "s1")):
        with pytest.raises(SessionNotFound):
            await sessions.get(user_id, session_id)
        with pytest.raises(SessionNotFound):
            await sessions.delete(user_id, session_id)
        with pytest.raises(SessionNotFound):
            await sessions.append(user_id, session_id, [message("m")])
        with pytest.raises(SessionNotFound):
            await sessions.append(user_id, session_id, [])
        with pytest.raises(SessionNotFound):
            await sessions.messages(user_id, session_id, None, 10, False)
    assert await sessions.list("bob", None, 10) == []


async def test_sessions_are_listed_last_used_first_and_by_id_at_equal_times(stores: Stores) -> None:
    for session_id, time in (("a", 2.5), ("c", 2.5), ("b", 2.5), ("new", 3), ("old", 1)):
        await commit(stores, message("m", session_id=session_id, created_at=time))
    sessions = stores.sessions
    assert [row.session_id for row in await sessions.list("ada", None, 10)] == ["new", "c", "b", "a", "old"]
    seen: list[str] = []
    before = None
    while page := await sessions.list("ada", before, 2):
        seen += [row.session_id for row in page]
        before = page[-1].updated_at, page[-1].session_id
    assert seen == ["new", "c", "b", "a", "old"]


async def test_a_message_moves_its_session_to_the_front(stores: Stores) -> None:
    for session_id, time in (("s1", 1), ("s2", 2)):
        await commit(stores, message("m", session_id=session_id, created_at=time))
    await stores.sessions.append("ada", "s1", [message("m2", created_at=3)])
    rows = await stores.sessions.list("ada", None, 10)
    assert [(row.session_id, row.updated_at, row.message_count) for row in rows] == [
        ("s1", 3, 2),
        ("s2", 2, 1),
    ]


async def test_appended_messages_keep_their_order_and_content(sessions: SessionStore) -> None:
    await sessions.create("ada", "s1", "")
    stored = await sessions.append("ada", "s1", [message(f"m{n}", payload=b"\x00" * n) for n in range(100)])
    assert ids(stored) == [f"m{n}" for n in range(100)]
    positions = [row.position for row in stored]
    assert positions == sorted(set(positions))
    assert positions[0] >= 1
    assert await sessions.messages("ada", "s1", None, 1000, False) == list(stored)
    assert (stored[3].session_id, stored[3].payload, stored[3].created_at, stored[3].run_id) == (
        "s1",
        b"\x00" * 3,
        1.5,
        "r1",
    )


async def test_a_repeated_append_adds_nothing_and_says_so(sessions: SessionStore) -> None:
    await sessions.create("ada", "s1", "")
    await sessions.append("ada", "s1", [message("m1"), message("m2")])
    again = await sessions.append("ada", "s1", [message("m2"), message("m3"), message("m3"), message("m1")])
    assert ids(again) == ["m3"]
    assert (await sessions.get("ada", "s1")).message_count == 3
    before = await sessions.get("ada", "s1")
    assert await sessions.append("ada", "s1", [message("m1", created_at=before.updated_at + 9)]) == []
    assert await sessions.get("ada", "s1") == before


async def test_an_id_may_be_used_in_every_session(sessions: SessionStore) -> None:
    await tell(sessions, "same")
    await tell(sessions, "same", session_id="s2")
    await tell(sessions, "same", user_id="bob")
    assert (await sessions.get("ada", "s2")).message_count == 1
    assert (await sessions.get("bob", "s1")).message_count == 1


async def test_appends_at_once_lose_nothing(sessions: SessionStore) -> None:
    await sessions.create("ada", "s1", "")
    await asyncio.gather(
        *(sessions.append("ada", "s1", [message(f"{n}-{m}") for m in range(5)]) for n in range(20))
    )
    stored = await sessions.messages("ada", "s1", None, 1000, False)
    assert len(stored) == 100
    assert len({row.position for row in stored}) == 100


@pytest.mark.parametrize("descending", [False, True])
async def test_messages_page_from_either_end(sessions: SessionStore, descending: bool) -> None:
    await sessions.create("ada", "s1", "")
    await sessions.create("ada", "s2", "")
    for number in range(7):
        await sessions.append("ada", "s1", [message(f"m{number}")])
        await sessions.append("ada", "s2", [message(f"other{number}")])
    seen: list[str] = []
    cursor = None
    while page := await sessions.messages("ada", "s1", cursor, 3, descending):
        assert len(page) <= 3
        seen += [row.message_id for row in page]
        cursor = page[-1].position
    expected = [f"m{number}" for number in range(7)]
    assert seen == (expected[::-1] if descending else expected)


async def test_a_deleted_session_is_gone_with_its_messages(sessions: SessionStore) -> None:
    await tell(sessions, "indexed penguin")
    assert await found(sessions, "penguin") == ["indexed penguin"]
    await tell(sessions, "pending penguin")
    await tell(sessions, "other penguin", session_id="s2")
    await sessions.delete("ada", "s1")
    with pytest.raises(SessionNotFound):
        await sessions.get("ada", "s1")
    assert await found(sessions, "penguin") == ["other penguin"]
    await sessions.create("ada", "s1", "")
    assert await sessions.messages("ada", "s1", None, 10, False) == []
    assert ids(await sessions.append("ada", "s1", [message("indexed penguin")])) == ["indexed penguin"]


async def test_any_word_of_a_query_matches_and_more_words_match_better(sessions: SessionStore) -> None:
    await tell_apart(
        sessions,
        "the penguin eats a herring",
        "the penguin sleeps",
        "a herring swims",
        "nothing of the kind",
        "filler one",
        "filler two",
        "filler three",
    )
    hits = await sessions.search("ada", "penguin herring", None, 10)
    assert hits[0].message.message_id == "the penguin eats a herring"
    assert {hit.message.message_id for hit in hits[1:]} == {"the penguin sleeps", "a herring swims"}
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[1]
    assert await found(sessions, "penguin herring", limit=1) == ["the penguin eats a herring"]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Two penguins were running", "PENGUIN"),
        ("Two penguins were running", "run"),
        ("I stored the stories", "story"),
        ("she hoped", "hopes"),
        ("the café is closed", "cafe"),
        ("Ärger im Büro", "ärger"),
        ("price: 42,50 EUR", "42"),
        ("send it to ada@example.com", "example"),
        ("well-known facts", "known"),
        ("snake_case_name", "case"),
        ("नमस्ते दुनिया", "दुनिया"),
        ("Привет, мир", "мир"),
        ("ｆｕｌｌｗｉｄｔｈ letters", "fullwidth"),
        ("before\x00behind", "behind"),
    ],
)
async def test_words_are_found_whatever_their_form(sessions: SessionStore, text: str, query: str) -> None:
    await tell_apart(sessions, text, "something else", "filler")
    assert await found(sessions, query) == [text]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("我喜欢吃北京烤鸭", "烤鸭"),
        ("我喜欢吃北京烤鸭", "北京烤鸭好吃吗"),
        ("我喜欢吃北京烤鸭", "鸭"),
        ("我喜欢吃北京烤鸭", "我"),
        ("猫", "猫"),
        ("吾輩は猫である。名前はまだ無い。", "名前"),
        ("東京タワーへ行きました", "タワー"),
        ("한국어를 공부합니다", "공부"),
        ("Python入門の本", "入門"),
        ("Python入門の本", "python"),
        ("𠮷野家の牛丼", "𠮷野"),
    ],
)
async def test_chinese_japanese_and_korean_are_found(sessions: SessionStore, text: str, query: str) -> None:
    await tell_apart(sessions, text, "something else entirely", "无关的句子")
    assert await found(sessions, query) == [text]


async def test_of_two_chinese_texts_the_one_with_more_of_the_query_comes_first(
    sessions: SessionStore,
) -> None:
    await tell_apart(sessions, "北京很大", "北京烤鸭很好吃", "上海", "广州", "深圳", "天津")
    assert await found(sessions, "北京烤鸭") == ["北京烤鸭很好吃", "北京很大"]


@pytest.mark.parametrize("query", ["", "   ", "?!", "「」。", "🎉", *HOSTILE])
async def test_a_query_is_never_an_expression(sessions: SessionStore, query: str) -> None:
    await tell(sessions, "plain words", "others")
    assert await found(sessions, query) == []


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_the_words_beside_punctuation_still_count(sessions: SessionStore, hostile: str) -> None:
    await tell_apart(sessions, "plain words", "others")
    assert await found(sessions, f"{hostile} plain") == ["plain words"]
    assert await found(sessions, f"plain {hostile} nothing") == ["plain words"]


async def test_operators_are_words(sessions: SessionStore) -> None:
    await tell_apart(sessions, "this or that", "near and far", "filler")
    assert await found(sessions, "OR") == ["this or that"]
    assert await found(sessions, "NEAR") == ["near and far"]
    assert await found(sessions, "plain AND NOT near") == ["near and far"]


async def test_the_longest_query_is_answered(sessions: SessionStore) -> None:
    await tell_apart(sessions, "needle", "长长的句子")
    words = " ".join(f"w{number}" for number in range(300))
    assert await found(sessions, f"{words} needle") == ["needle"]
    assert await found(sessions, "".join(chr(0x4E00 + number) for number in range(1000)) + "句子") == [
        "长长的句子"
    ]


async def test_nobody_finds_what_is_anothers(sessions: SessionStore) -> None:
    await tell(sessions, "penguin of ada")
    await tell(sessions, "penguin of bob", user_id="bob")
    assert await found(sessions, "penguin") == ["penguin of ada"]
    assert await found(sessions, "penguin", user_id="bob") == ["penguin of bob"]
    assert await found(sessions, "penguin", user_id="eve") == []
    assert await found(sessions, "penguin", user_id="") == []
    assert await found(sessions, "penguin", user_id='ada" OR "bob') == []


async def test_a_search_may_be_within_one_session(sessions: SessionStore) -> None:
    await tell(sessions, "penguin one")
    await tell(sessions, "penguin two", session_id="s2")
    assert await found(sessions, "penguin", session_id="s2") == ["penguin two"]
    assert await found(sessions, "penguin", session_id="nope") == []
    assert await found(sessions, "s2") == []


async def test_what_a_run_committed_is_found_at_once(stores: Stores) -> None:
    for number in range(250):
        await commit(stores, message(f"m{number}", f"penguin number{number}"))
    assert await found(stores.sessions, "number249") == ["m249"]
    assert len(await found(stores.sessions, "penguin", limit=100)) == 100
    hit = (await stores.sessions.search("ada", "number7", None, 1))[0]
    assert hit.message == (await stores.sessions.messages("ada", "s1", None, 8, False))[-1]


async def test_pending_messages_are_indexed_up_to_a_limit(sessions: SessionStore) -> None:
    await tell(sessions, *(f"penguin {number}" for number in range(130)), "")
    assert await sessions.index_pending(25) == 25
    assert await sessions.index_pending() == 106
    assert await sessions.index_pending() == 0
    assert len(await found(sessions, "penguin", limit=200)) == 130


async def test_indexing_and_searching_at_once_find_each_message_once(sessions: SessionStore) -> None:
    await tell(sessions, *(f"penguin {number}" for number in range(150)))
    searches = [found(sessions, "penguin", limit=200) for _ in range(4)]
    await asyncio.gather(sessions.index_pending(), *searches, sessions.index_pending())
    again = await found(sessions, "penguin", limit=200)
    assert len(again) == len(set(again)) == 150


async def test_a_search_leaves_to_the_pass_what_others_have_pending(sessions: SessionStore) -> None:
    await tell(sessions, *(f"penguin {number}" for number in range(130)), user_id="bob")
    await tell(sessions, "penguin of ada")
    assert await found(sessions, "penguin") == ["penguin of ada"]
    assert await sessions.index_pending() >= 130


async def test_a_search_in_a_session_leaves_to_the_pass_what_others_have_pending(
    sessions: SessionStore,
) -> None:
    await tell(sessions, *(f"penguin {number}" for number in range(130)))
    await tell(sessions, "penguin here", session_id="s2")
    assert await found(sessions, "penguin", session_id="s2") == ["penguin here"]
    assert await sessions.index_pending() >= 130


async def test_what_a_search_has_indexed_the_pass_does_not_index_again(sessions: SessionStore) -> None:
    await tell(sessions, *(f"herring {number}" for number in range(60)), user_id="bob")
    await tell(sessions, *(f"penguin {number}" for number in range(130)))
    once = await found(sessions, "penguin", limit=200)
    await sessions.remove("ada", "s1", "penguin 7")
    while await sessions.index_pending(50):
        pass
    again = await found(sessions, "penguin", limit=200)
    assert sorted(again) == sorted(set(once) - {"penguin 7"})


async def test_a_deleted_session_is_not_indexed_any_more(sessions: SessionStore) -> None:
    await tell(sessions, *(f"penguin {number}" for number in range(130)))
    await tell(sessions, "penguin here", session_id="s2")
    search = asyncio.create_task(sessions.search("ada", "penguin", None, 200))
    await sessions.delete("ada", "s1")
    await search
    assert await found(sessions, "penguin", limit=200) == ["penguin here"]


async def test_a_huge_text_is_searched(sessions: SessionStore) -> None:
    await sessions.create("ada", "s1", "")
    await sessions.append("ada", "s1", [message("m1", "filler words " * 100_000 + "needle")])
    assert await found(sessions, "needle") == ["m1"]


async def tell_apart(sessions: SessionStore, *texts: str) -> None:
    """Append each text to a session of its own."""
    for text in texts:
        await tell(sessions, text, session_id=f"of {text}")


async def told(sessions: SessionStore, session_id: str) -> list[str]:
    return [row.message_id for row in await sessions.messages("ada", session_id, None, 100, False)]


async def test_metadata_is_replaced(sessions: SessionStore) -> None:
    await sessions.create("ada", "s1", '{"a":1}')
    assert (await sessions.update("ada", "s1", '{"b":2}')).metadata == '{"b":2}'
    assert (await sessions.get("ada", "s1")).metadata == '{"b":2}'
    with pytest.raises(SessionNotFound):
        await sessions.update("bob", "s1", "")


async def test_one_message_is_read_and_removed(sessions: SessionStore) -> None:
    await tell(sessions, "a lion", "a zebra")
    stored = await sessions.message("ada", "s1", "a zebra")
    assert (stored.message_id, stored.payload, stored.run_id) == ("a zebra", b"payload\x00", "r1")
    assert await found(sessions, "zebra") == ["a zebra"]
    await sessions.remove("ada", "s1", "a zebra")
    assert await told(sessions, "s1") == ["a lion"]
    assert await found(sessions, "zebra") == []
    await sessions.remove("ada", "s1", "a lion")
    for gone in (("ada", "s1", "a zebra"), ("bob", "s1", "a lion"), ("ada", "s2", "a lion")):
        with pytest.raises(MessageNotFound):
            await sessions.message(*gone)
        with pytest.raises(MessageNotFound):
            await sessions.remove(*gone)


async def test_a_session_is_forked_behind_a_run(sessions: SessionStore) -> None:
    await sessions.create("ada", "s1", "")
    for message_id, run_id in (("m1", "r1"), ("m2", "r1"), ("m3", "r2"), ("m4", "r2")):
        await sessions.append(
            "ada",
            "s1",
            [NewMessage("ada", "s1", message_id, "user", f"word {message_id}", b"p", 1.0, run_id)],
        )
    assert await found(sessions, "m1") == ["m1", "m2"]  # the following message is found too
    assert not await sessions.fork("ada", "s1", "r2", "s2", always=False)
    assert not await sessions.fork("ada", "s1", "unknown", "s2", always=False)
    with pytest.raises(SessionNotFound):
        await sessions.get("ada", "s2")
    assert await sessions.fork("ada", "s1", "r1", "s2", always=False)
    assert await sessions.fork("ada", "s1", "r2", "s3", always=True)
    assert await told(sessions, "s2") == ["m1", "m2"]
    assert await told(sessions, "s3") == await told(sessions, "s1") == ["m1", "m2", "m3", "m4"]
    await tell(sessions, "m5", session_id="s2")
    assert await told(sessions, "s2") == ["m1", "m2", "m5"]
    assert await found(sessions, "m2", session_id="s2") == ["m2", "m5"]
    await sessions.delete("ada", "s1")
    assert await found(sessions, "m1") == ["m1", "m1", "m2", "m2"]


async def test_a_session_is_forked_before_a_message(sessions: SessionStore) -> None:
    await sessions.create("ada", "s1", "")
    for message_id, run_id in (("m1", "r1"), ("m2", "r1"), ("m3", "r2"), ("m4", "r1")):
        await sessions.append(
            "ada", "s1", [NewMessage("ada", "s1", message_id, "user", "", b"p", 1.0, run_id)]
        )
    assert await sessions.fork("ada", "s1", "r1", "s2", always=False, before="m4")
    assert await told(sessions, "s2") == ["m1", "m2", "m3"]
    assert await sessions.fork("ada", "s1", "r1", "s3", always=False, before="m1")
    assert await told(sessions, "s3") == []
    for nowhere in ("m3", "m5"):  # a message of another run, and no message
        with pytest.raises(MessageNotFound):
            await sessions.fork("ada", "s1", "r1", "s4", always=False, before=nowhere)
    assert await sessions.fork("ada", "s1", "silent", "s4", always=True)
    assert await told(sessions, "s4") == ["m1", "m2", "m3", "m4"]


async def test_a_session_that_is_gone_has_no_fork(sessions: SessionStore) -> None:
    await tell(sessions, "m1")
    await sessions.delete("ada", "s1")
    for always in (False, True):
        with pytest.raises(SessionNotFound):
            await sessions.fork("ada", "s1", "r1", "s2", always=always)


async def test_idle_sessions_are_everybodys_the_longest_idle_first(stores: Stores) -> None:
    names = [("bob", "s1", 3.0), ("ada", "s2", 3.0), ("ada", "s1", 1.0), ("cy", "s1", 9.0)]
    # A commit of the run log can contain sessions.
    begun = [NewSession(*name) for name in names]
    said = [
        message(f"m-{user}-{session}", user_id=user, session_id=session, created_at=at)
        for user, session, at in names
    ]
    await stores.runs.commit(Commit(sessions=begun, messages=said))
    found = await stores.sessions.idle(4.0, None, 10)
    assert [(one.user_id, one.session_id) for one in found] == [("ada", "s1"), ("ada", "s2"), ("bob", "s1")]
    first = await stores.sessions.idle(4.0, None, 1)
    assert await stores.sessions.idle(4.0, first[0], 10) == found[1:]
    assert await stores.sessions.idle(3.0, None, 10) == first


async def test_a_session_that_was_used_since_is_not_deleted_as_idle(sessions: SessionStore) -> None:
    used = (await sessions.create("ada", "s1", "")).updated_at
    with pytest.raises(SessionNotFound):
        await sessions.delete("ada", "s1", idle_since=used)
    assert (await sessions.get("ada", "s1")).session_id == "s1"
    await sessions.delete("ada", "s1", idle_since=used + 1)
    with pytest.raises(SessionNotFound):
        await sessions.get("ada", "s1")


async def test_a_search_may_be_for_messages_of_some_roles_and_types(sessions: SessionStore) -> None:
    await sessions.create("ada", "s1", "")
    kinds = [
        ("user", "message"),
        ("assistant", "message"),
        ("assistant", "reasoning"),
        ("tool", "plugin_call_output"),
    ]
    await sessions.append(
        "ada",
        "s1",
        [
            NewMessage("ada", "s1", f"{role}/{type}", role, "a penguin", b"", 1.5, "run", type)
            for role, type in kinds
        ],
    )

    async def found(**wanted: list[str]) -> set[str]:
        hits = await sessions.search("ada", "penguins", None, 10, **wanted)
        return {hit.message.message_id for hit in hits}

    assert await found(roles=["user"]) == {"user/message"}
    assert await found(roles=["assistant"], types=["message"]) == {"assistant/message"}
    assert await found(types=["reasoning", "plugin_call_output"]) == {
        "assistant/reasoning",
        "tool/plugin_call_output",
    }
    assert await found(roles=["user"], types=["reasoning"]) == set()
    assert len(await found()) == 4
    hits = await sessions.search("ada", "penguins", None, 1, roles=["user"])
    assert [hit.message.message_id for hit in hits] == ["user/message"]
    assert await sessions.fork("ada", "s1", "run", "s2", always=True)
    hits = await sessions.search("ada", "penguins", "s2", 10, types=["reasoning"])
    assert [hit.message.message_id for hit in hits] == ["assistant/reasoning"]
