"""Specs: what is the same, and what nobody may ask."""

import pytest

from portico.sandbox import errors
from portico.sandbox.spec import MODULES, Spec


def test_the_same_modules_are_the_same_spec() -> None:
    names = ("json", "decimal", "json")
    assert Spec(preload=names) == Spec(preload=names[:2]) == Spec(preload=("decimal", "json"))


@pytest.mark.parametrize(
    "preload",
    [
        tuple(f"m{number}" for number in range(MODULES + 1)),
        ("m" * 101,),
        ("a b",),
        ("",),
        ("a..b",),
        ("../a",),
        ("test.__main__",),
    ],
)
def test_preloaded_modules_are_few_and_have_plain_names(preload: tuple[str, ...]) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"^preload: "):
        Spec(preload=preload).check()
    Spec(preload=tuple(f"m{number}" for number in range(MODULES))).check()
