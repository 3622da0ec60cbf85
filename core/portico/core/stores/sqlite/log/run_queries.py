"""The SQL statements that list and count runs in SQLite."""

from collections.abc import Sequence
from typing import Any

from portico.core.stores.ports.stores import RunFilter
from portico.core.stores.sqlite.log.log_writer import RUN_COLUMNS
from portico.model.run_status import TERMINAL_STATUSES

SELECT_RUNS = f"SELECT {', '.join(RUN_COLUMNS)} FROM runs WHERE "  # noqa: S608 - column names are ours

_Terms = list[tuple[str, Sequence[Any]]]


def select_page(
    where: RunFilter, before: tuple[float, str] | None, limit: int, *, by_status: bool
) -> tuple[str, list[Any]]:
    """Return the statement of `RunLog.list` and its values.

    It scans one index from its end, so a page costs the same for any number of runs.
    """
    time = "updated_at" if by_status else "created_at"
    terms = _terms(where)
    if before is not None:
        terms.append((f"({time}, run_id) < (?, ?)", before))
    walks = [terms]
    if where.statuses and where.user_id is None and where.session_id is None and not by_status:
        # One scan per status, merged. A single scan would have to sort the runs of all these statuses.
        walks = [[*terms, ("status = ?", [status])] for status in dict.fromkeys(where.statuses)]
    elif where.statuses:
        terms.append(_any_of(where.statuses))
    newest = f" ORDER BY {time} DESC, run_id DESC LIMIT ?"
    selects = [SELECT_RUNS + _all_of(walk) + newest for walk in walks]
    values = [value for walk in walks for value in (*_values(walk), limit)]
    if len(selects) == 1:
        return selects[0], values
    merged = " UNION ALL ".join(f"SELECT * FROM ({select})" for select in selects)  # noqa: S608 - as above
    return merged + newest, [*values, limit]


def select_count(where: RunFilter) -> tuple[str, list[Any]]:
    """Return the statement of `RunLog.count` and its values."""
    terms = _terms(where)
    if where.statuses:
        terms.append(_any_of(where.statuses))
    return "SELECT count(*) FROM runs WHERE " + _all_of(terms), _values(terms)  # noqa: S608 - as above


def select_ended(before: float, limit: int) -> tuple[str, list[Any]]:
    """Return the statement of `RunLog.ended` and its values.

    It scans each final status up to the runs created before that time, since only they can have ended then.
    """
    walk = "SELECT run_id FROM runs WHERE status = ? AND created_at < ? AND updated_at < ?"
    walks = " UNION ALL ".join([walk] * len(TERMINAL_STATUSES))
    values = [value for status in sorted(TERMINAL_STATUSES) for value in (status.value, before, before)]
    return f"{walks} LIMIT ?", [*values, limit]


def _terms(where: RunFilter) -> _Terms:
    terms: _Terms = [
        (f"{column} = ?", [value])
        for column, value in (
            ("agent_name", where.agent_name),
            ("user_id", where.user_id),
            ("session_id", where.session_id),
        )
        if value is not None
    ]
    terms.append(("ephemeral = ''", ()))
    for condition, moment in (
        ("created_at >= ?", where.created_from),
        ("created_at < ?", where.created_until),
        ("updated_at >= ?", where.status_from),
    ):
        if moment is not None:
            terms.append((condition, [moment]))
    return terms


def _any_of(statuses: Sequence[str]) -> tuple[str, Sequence[Any]]:
    # The plus keeps the query planner from preferring the index of statuses, of all users, to the owner's.
    return f"+status IN ({','.join('?' * len(statuses))})", statuses


def _all_of(terms: _Terms) -> str:
    return " AND ".join(term for term, _ in terms)


def _values(terms: _Terms) -> list[Any]:
    return [value for _, values in terms for value in values]
