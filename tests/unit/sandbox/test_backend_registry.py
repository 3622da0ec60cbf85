"""Backends by their names in settings."""

import pytest

from portico.sandbox import errors
from portico.sandbox.backend_registry import is_backend, make_backend


@pytest.mark.parametrize("name", ["local", "docker", "docker:runsc", "bubblewrap", "bubblewrap:/srv/root"])
def test_a_backend_bears_the_name_it_was_asked_for_by(name: str) -> None:
    assert is_backend(name)
    assert make_backend(name).name == name


@pytest.mark.parametrize("name", ["", "none", "Local", "docker:", "docker:a b", "local:x", "bubblewrap:x"])
def test_what_is_no_backend_is_refused(name: str) -> None:
    assert not is_backend(name)
    with pytest.raises(errors.Unsupported, match="docker:RUNTIME"):
        make_backend(name)
