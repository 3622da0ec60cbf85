"""Backends by their names in settings."""

import pytest

from portico.sandbox import backend_registry, errors
from portico.sandbox.backend_registry import OWN_NAMES, BackendKind, is_backend, make_backend


@pytest.mark.parametrize("name", ["local", "docker", "docker:runsc", "bubblewrap", "bubblewrap:/srv/root"])
def test_a_backend_bears_the_name_it_was_asked_for_by(name: str) -> None:
    assert is_backend(name)
    assert make_backend(name).name == name


@pytest.mark.parametrize("name", ["", "none", "Local", "docker:", "docker:a b", "local:x", "bubblewrap:x"])
def test_what_is_no_backend_is_refused(name: str) -> None:
    assert not is_backend(name)
    with pytest.raises(errors.Unsupported, match="docker:RUNTIME"):
        make_backend(name)


def test_the_names_of_the_backends_come_from_the_table() -> None:
    assert OWN_NAMES == ("local", "docker", "docker:RUNTIME", "bubblewrap", "bubblewrap:/ROOT")


class BrokenPoint:
    name = "moon"

    def load(self) -> BackendKind:
        raise ImportError("No module named 'moon'")


def test_a_registered_backend_that_cannot_be_imported_is_unavailable_and_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def entry_points(*, group: str, name: str = "moon") -> list[BrokenPoint]:
        assert group == "portico.sandbox_backends"
        return [BrokenPoint()] if name == "moon" else []

    monkeypatch.setattr(backend_registry, "entry_points", entry_points)
    with pytest.raises(errors.BackendUnavailable, match=r"'moon' can't be imported \(No module named"):
        make_backend("moon")
    with pytest.raises(errors.Unsupported, match=r"bubblewrap:/ROOT, moon$"):
        make_backend("sun")
