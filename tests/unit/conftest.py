"""What holds for every unit test."""

import gc
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A machine that is busy elsewhere is no failure.
settings.register_profile("portico", deadline=None)
settings.load_profile("portico")


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What goes meanwhile goes because nobody refers to it any more."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
