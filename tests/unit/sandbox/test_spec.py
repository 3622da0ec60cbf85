"""Specifications: which are equal, and which are invalid."""

from typing import Any

import pytest

from portico.sandbox import errors
from portico.sandbox.spec import (
    MODULES,
    MOUNTS,
    RANGES,
    Limits,
    Mount,
    NetworkBounds,
    NetworkPolicy,
    Spec,
)
from portico.sandbox.warm_pool import is_compatible


def test_mounts_are_few() -> None:
    mounts = [Mount("/srv", f"/data/{number}") for number in range(MOUNTS + 1)]
    Spec(mounts=tuple(mounts[1:])).check()
    with pytest.raises(errors.InvalidRequest, match=r"^mounts: more than"):
        Spec(mounts=tuple(mounts)).check()


def test_what_waits_serves_specs_that_differ_only_in_what_comes_with_a_claim() -> None:
    usual = Spec()
    rules = NetworkBounds(deny=("example.com",))
    for spec in (
        Spec(type="filesystem", env={"A": "b"}, metadata={"a": "b"}, ttl_seconds=5, idle_action="pause"),
        Spec(limits=Limits(output_bytes=1024, call_seconds=1)),
        Spec(network=NetworkPolicy(bounds=rules)),
    ):
        assert is_compatible(usual, spec)
    for spec in (
        Spec(limits=Limits(processes=16)),
        Spec(network=NetworkPolicy(("example.com",))),
        Spec(preload=("json",)),
        Spec(mounts=(Mount("/srv", "/data"),)),
    ):
        assert not is_compatible(usual, spec)


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


_NAN, _INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize("name", RANGES)
def test_a_limit_out_of_its_range_is_refused_with_the_range(name: str) -> None:
    low, high = RANGES[name]
    wrong: list[Any] = [_NAN, _INFINITE, -_INFINITE, -1, 0, low / 2, high * 2, 2**63, 10**400, True, "8"]
    if isinstance(low, int):
        wrong += [float(low), low - 1, high + 1]
    for value in wrong:
        limits: Any = {name: value}
        with pytest.raises(errors.InvalidRequest, match=f"^limits.{name}: .* between {low} and {high}$"):
            Limits(**limits).check()
    for value in (low, high):
        limits = {name: value}
        Limits(**limits).check()


@pytest.mark.parametrize("name", ["ttl_seconds", "idle_seconds"])
def test_a_time_to_live_is_a_finite_number_of_seconds(name: str) -> None:
    for value in (_NAN, _INFINITE, -_INFINITE, 0, -1.5, 1e12, 10**400):
        spec: Any = {name: value}
        with pytest.raises(errors.InvalidRequest, match=f"^{name}: .* between 0.001 and 1000000000.0$"):
            Spec(**spec).check()
    for fine in (None, 0.5, 1e9):
        spec = {name: fine}
        Spec(**spec).check()
