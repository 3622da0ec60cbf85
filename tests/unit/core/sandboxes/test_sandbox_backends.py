"""Sandbox backends of a core: the default one, and only those others that the operator allows."""

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from portico.core.__main__ import _parser
from portico.core.errors import InvalidArgument
from portico.core.sandboxes.allowed_mounts import AllowedMounts
from portico.core.sandboxes.core_sandboxes import CoreSandboxes
from portico.core.sandboxes.sandbox_errors import SandboxUnavailable, SandboxUnsupported
from portico.core.sandboxes.sandbox_policy import PRELOAD, SandboxPolicy
from portico.core.server.core_server import _sandbox_policy
from portico.core.settings.core_settings import CoreSettings
from portico.sandbox import backend_registry
from portico.sandbox.backend_registry import BackendKind, BackendOptions
from portico.sandbox.local.backend import LocalBackend
from portico.sandbox.spec import MIB, Limits, Mount, NetworkBounds, NetworkPolicy, Spec


async def test_a_caller_chooses_among_the_backends_that_there_are(
    docker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", docker_url)
    sandboxes = CoreSandboxes(SandboxPolicy(backend="local", more_backends=("docker",)))
    try:
        for asked, backend, tier in (("", "local", None), ("docker", "docker", "container")):
            held = await sandboxes.create("ann", "s", Spec(), asked)
            assert held.backend == backend
            assert tier in (None, sandboxes.tier(held))
            assert (await held.handle.run_cell("6 * 7")).rich[0].data["text/plain"] == b"42"
        with pytest.raises(SandboxUnsupported):
            await sandboxes.create("ann", "s", Spec(), "docker:runsc")
    finally:
        await sandboxes.close()


async def test_an_engine_that_is_not_there_is_told_to_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    sandboxes = CoreSandboxes(SandboxPolicy(backend="docker"))
    try:
        with pytest.raises(SandboxUnavailable, match="log has the reason"):
            await sandboxes.create("ann", "s", Spec())
    finally:
        await sandboxes.close()


def test_a_name_that_is_no_backend_is_a_mistake_in_the_settings() -> None:
    settings = CoreSettings(sandbox_backend="docker:runsc", sandbox_backends=["local", "bubblewrap:/srv"])
    assert settings.sandbox_backends == ["local", "bubblewrap:/srv"]
    for wrong in ({"sandbox_backend": "moon"}, {"sandbox_backends": ["local", "moon"]}):
        with pytest.raises(ValidationError, match="docker:RUNTIME"):
            CoreSettings(**wrong)


class NamedBackend(LocalBackend):
    """A backend of another package."""

    def __init__(self, options: BackendOptions) -> None:
        super().__init__()
        self.name = f"named:{options.argument}"


class Point:
    name = "named"

    def load(self) -> BackendKind:
        return BackendKind(
            make=NamedBackend,
            argument="[a-z]+",
            placeholder="WORD",
            visible_root=lambda argument: f"/srv/{argument}",
        )


def register_named_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(*, group: str, name: str = "named") -> list[Point]:
        assert group == "portico.sandbox_backends"
        return [Point()] if name == "named" else []

    monkeypatch.setattr(backend_registry, "entry_points", entry_points)


def settings_of(*arguments: str) -> CoreSettings:
    options = vars(_parser().parse_args([*arguments, "--", "agent.py"]))
    return CoreSettings(
        **{
            name: value
            for name, value in options.items()
            if name in CoreSettings.model_fields and value is not None
        }
    )


async def test_a_backend_of_another_package_serves_sandboxes_of_a_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register_named_backend(monkeypatch)
    sandboxes = CoreSandboxes(_sandbox_policy(settings_of("--sandbox-backends", "named:one")))
    await sandboxes.start()
    try:
        held = await sandboxes.create("ann", "s", Spec(), "named:one")
        assert held.backend == "named:one"
        assert (await held.handle.run_cell("6 * 7")).rich[0].data["text/plain"] == b"42"
        with pytest.raises(SandboxUnsupported):
            await sandboxes.create("ann", "s", Spec(), "named:two")
    finally:
        await sandboxes.close()


def test_a_backend_of_another_package_checks_its_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    register_named_backend(monkeypatch)
    with pytest.raises(ValidationError, match=r"unknown backend 'named:1'; expected one of .*, named "):
        settings_of("--sandbox-backends", "named:1")


async def test_private_files_are_kept_out_of_a_backend_of_another_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register_named_backend(monkeypatch)
    policy = SandboxPolicy(more_backends=("named:one",), private={"the audit log": "/srv/one/audit.log"})
    with pytest.raises(ValueError, match="the audit log"):
        await CoreSandboxes(policy).start()


def test_default_limits_are_the_operator_s_where_those_are_lower() -> None:
    policy = SandboxPolicy(limits=Limits(memory_bytes=64 * MIB, output_bytes=1 << 40))
    assert policy.defaults() == Limits(memory_bytes=64 * MIB)
    assert policy.defaults() is policy.defaults(), "they are computed again for each sandbox"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 0.5, 2**70])
def test_a_setting_out_of_its_range_is_a_mistake(value: float) -> None:
    names = ("memory_bytes", "processes", "disk_bytes", "inodes", "output_bytes", "pool_size")
    for name in (*names, "cpus", "call_seconds", "ttl_seconds", "idle_seconds"):
        if value != 0.5 or name in names:
            with pytest.raises(ValidationError, match=f"sandbox_{name}"):
                CoreSettings.model_validate({f"sandbox_{name}": value})


def test_the_operator_says_which_mounts_are_shown_as_their_owner(tmp_path: Path) -> None:
    for name in ("own", "rw"):
        (tmp_path / name / "x").mkdir(parents=True)
    allowed = AllowedMounts((f"{tmp_path}/own:own", f"{tmp_path}/rw:rw"))
    asked = tuple(Mount(f"{tmp_path}/{name}/x", "/data", writable=True) for name in ("own", "rw"))
    assert [mount.as_owner for mount in allowed.open_mounts(asked)] == [True, False]
    stolen = Mount(f"{tmp_path}/rw", "/data", as_owner=True)
    assert not allowed.open_mounts((stolen,))[0].as_owner


def test_a_mount_leads_nowhere_else_than_below_what_the_operator_named(tmp_path: Path) -> None:
    (tmp_path / "real/shown/x").mkdir(parents=True)
    (tmp_path / "real/secret").mkdir()
    (tmp_path / "named").symlink_to("real")
    (tmp_path / "real/shown/out").symlink_to("../secret")
    (tmp_path / "real/shown/same").symlink_to("x")
    os.mkfifo(tmp_path / "real/shown/pipe")
    allowed = AllowedMounts((f"{tmp_path}/named/shown",))
    for name in ("named", "real"):
        (mount,) = allowed.open_mounts((Mount(f"{tmp_path}/{name}/shown/x/", "/data"),))
        assert mount.opened is not None
        assert mount.source == mount.opened.path == f"{tmp_path}/real/shown/x"
    for path in ("out", "same", "pipe", "none", "../secret", "x/../../secret"):
        with pytest.raises(InvalidArgument):
            allowed.open_mounts((Mount(f"{tmp_path}/real/shown/{path}", "/data"),))
    with pytest.raises(InvalidArgument):
        allowed.open_mounts((Mount(f"{tmp_path}/real/shown/x", "/data", writable=True),))
    (tmp_path / "real/shown").rename(tmp_path / "real/moved")
    (tmp_path / "real/shown").symlink_to("secret")
    (mount,) = allowed.open_mounts((Mount(f"{tmp_path}/real/shown/x", "/data"),))
    assert mount.opened is not None
    assert mount.opened.inode[1] == (tmp_path / "real/moved/x").stat().st_ino


@pytest.mark.parametrize("entry", ["data", "/none/of/it", "/etc:rx", "/etc:rw:own", ""])
def test_a_directory_to_show_that_is_not_understood_or_not_there_stops_the_start(entry: str) -> None:
    with pytest.raises(ValueError, match="sandbox mounts"):
        AllowedMounts((entry,))


def test_the_operator_says_which_modules_are_preloaded() -> None:
    asked = Spec(preload=("test.support", "numpy"))
    with pytest.raises(InvalidArgument, match=r"test\.support.*import it in a cell"):
        SandboxPolicy().check_spec(asked)
    SandboxPolicy().check_spec(Spec(preload=("numpy",)))
    for preload in (("numpy", "test.support"), ("*",)):
        assert SandboxPolicy(preload=preload).check_spec(asked).preload == ("numpy", "test.support")
    with pytest.raises(InvalidArgument, match="numpy"):  # allowing a submodule does not allow its package
        SandboxPolicy(preload=("numpy.linalg",)).check_spec(Spec(preload=("numpy",)))
    with pytest.raises(InvalidArgument):
        SandboxPolicy(preload=()).check_spec(Spec(preload=("numpy",)))


def test_settings_name_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CoreSettings().sandbox_preload == list(PRELOAD)
    monkeypatch.setenv("PORTICO_CORE_SANDBOX_PRELOAD", '["torch"]')
    assert CoreSettings().sandbox_preload == ["torch"]
    for wrong in ("a b", "numpy.*", "", "test.__main__"):
        with pytest.raises(ValidationError, match="not a module name"):
            CoreSettings(sandbox_preload=[wrong])


def test_the_operator_bounds_the_network() -> None:
    bounds = NetworkBounds(hosts=("*.example.com", "pypi.org"), deny=("10.1.0.0/16",), open=("10.0.0.0/8",))
    policy = SandboxPolicy(network_bounds=bounds)
    widened = NetworkPolicy(("a.example.com", "pypi.org:443"), NetworkBounds(open=("127.0.0.0/8",)))
    assert policy.check_spec(Spec(network=widened)).network == NetworkPolicy(widened.allow_hosts, bounds)
    assert policy.check_spec(Spec()) == policy.check_spec(Spec(network=NetworkPolicy(bounds=bounds)))
    assert policy.check_spec(Spec()).network == NetworkPolicy()
    for host in ("example.com", "*.com", "pypi.org:22", "tcp://a.example.com:443"):
        with pytest.raises(InvalidArgument, match=r"allow_hosts\[1\].*operator"):
            policy.check_spec(Spec(network=NetworkPolicy(("pypi.org", host))))
    with pytest.raises(InvalidArgument, match="not a host"):
        policy.check_spec(Spec(network=NetworkPolicy(("a/b",))))
    with pytest.raises(InvalidArgument, match="no network"):
        SandboxPolicy(network=False).check_spec(Spec(network=NetworkPolicy(("pypi.org",))))


def test_bounds_of_the_network_are_read_when_a_core_starts() -> None:
    settings = CoreSettings(
        sandbox_network_hosts=["*.example.com", "tcp://db.example.org:5432"],
        sandbox_network_deny=["10.0.0.0/8", "evil.example.com"],
        sandbox_network_open=["192.168.1.0/24"],
    )
    assert settings.sandbox_network_open == ["192.168.1.0/24"]
    wrongs: list[dict[str, Any]] = [
        {"sandbox_network_hosts": ["http://x"]},
        {"sandbox_network_deny": ["10.0.0.0/33"]},
        {"sandbox_network_open": ["example.com"]},
        {"sandbox_network_open": ["0.0.0.0/0"]},
    ]
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            CoreSettings(**wrong)
