"""How large the transactions of a deletion are."""

from portico.core.stores.deletion_steps import LEAST_ROWS, MOST_ROWS, STEP_SECONDS, StepSize, next_batch


def test_transactions_grow_while_they_are_short() -> None:
    size = StepSize()
    for _ in range(5):
        size.took(STEP_SECONDS / 10)
    assert size.rows == MOST_ROWS


def test_transactions_shrink_at_once_when_one_was_long() -> None:
    size = StepSize()
    size.took(1.25 * STEP_SECONDS)
    assert size.rows == 80
    size.took(100.0)
    assert size.rows == LEAST_ROWS


def test_small_rows_fill_a_transaction_and_large_ones_limit_it() -> None:
    size = StepSize()
    size.took(STEP_SECONDS / 2)
    small, large = [(n, 0) for n in range(1000)], [(n, 600_000) for n in range(1000)]
    assert len(next_batch(small, row_bytes=size.row_bytes)) == 200
    assert len(next_batch(large, row_bytes=size.row_bytes)) == 1
