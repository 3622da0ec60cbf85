"""Every secret of every process may be in a file."""

import os
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from portico.cli.connect import connect
from portico.core.__main__ import _parser as core_parser
from portico.core.server.private_paths import private_paths
from portico.core.settings.core_settings import CoreSettings
from portico.gateways.__main__ import _parser as gateway_parser
from portico.gateways.gateway_registry import GATEWAYS
from portico.gateways.http.settings import HttpSettings
from portico.process.secrets import (
    SecretSettings,
    exposed_secret_files,
    from_file,
    is_secret,
    read_secret,
    secrets_of,
)
from portico.process.settings import Misconfigured, flag, read, variable
from portico.telemetry import setup

SETTINGS: list[type[SecretSettings]] = [
    CoreSettings,
    HttpSettings,
    *(kind.settings() for kind in GATEWAYS.values()),
]
SECRETS = [(settings, name) for settings in SETTINGS for name in secrets_of(settings)]
KEY = "an-admin-key-of-32-letters-or-more"
# Settings that a secret requires.
BESIDE: dict[str, dict[str, Any]] = {"admin_key": {"auth": True}}


def names(secrets: list[tuple[type[SecretSettings], str]]) -> set[str]:
    return {variable(settings, name) for settings, name in secrets}


def test_what_is_called_a_secret_is_one() -> None:
    """A setting named like a secret, unless it is a path, has the type SecretStr, which never shows its
    value."""
    assert names(SECRETS) >= {
        "PORTICO_CORE_ADMIN_KEY",
        "PORTICO_CORE_STORE_KEY",
        "PORTICO_A2A_CARD_KEY",
        "PORTICO_A2A_CREDENTIAL",
    }
    for settings in SETTINGS:
        for name, field in settings.model_fields.items():
            if name.endswith(("key", "credential", "token", "secret", "password")):
                assert is_secret(field) or "Path" in str(field.annotation), f"{settings.__name__}.{name}"


def test_settings_with_a_secret_that_can_be_in_no_file_are_not_defined() -> None:
    with pytest.raises(TypeError, match=r"Forgetful\.password .* password_file"):

        class Forgetful(SecretSettings):
            password: SecretStr | None = None


@pytest.mark.parametrize(("settings", "name"), SECRETS)
@pytest.mark.parametrize("by", ["option", "variable"])
def test_a_secret_is_read_from_a_file(
    settings: type[SecretSettings], name: str, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{KEY}\n")
    given = dict(BESIDE.get(name, {}))
    if by == "option":
        given[f"{name}_file"] = str(file)
    else:
        monkeypatch.setenv(f"{variable(settings, name)}_FILE", str(file))
    secret = getattr(read(settings, given), name)
    assert secret.get_secret_value() == KEY
    with pytest.raises(
        Misconfigured, match=f"{variable(settings, name)} and .* set the same secret: use one"
    ):
        read(settings, {**given, name: KEY})


@pytest.mark.parametrize(("settings", "name"), SECRETS)
def test_a_file_that_has_no_secret_is_refused(
    settings: type[SecretSettings], name: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b"x" * (64 * 1024 + 1))
    wrong = {
        "missing": "can't be read: .*No such file",
        ".": "can't be read: .*Is a directory",
        "empty": "that is empty",
        "binary": "that is not text",
        "large": "more than 64 KiB",
    }
    for file, words in wrong.items():
        given = {**BESIDE.get(name, {}), f"{name}_file": tmp_path / file}
        with pytest.raises(Misconfigured, match=rf"{variable(settings, name)}_FILE\) .*{words}"):
            read(settings, given)


def test_no_secret_is_an_option_and_every_file_of_one_is() -> None:
    core = core_parser()
    options = {option for action in core._actions for option in action.option_strings}
    for name in secrets_of(CoreSettings):
        assert flag(name) not in options
        assert flag(f"{name}_file") in options
    gateways = next(action for action in gateway_parser()._actions if action.dest == "gateway").choices
    assert gateways is not None
    for gateway, kind in GATEWAYS.items():
        for name in secrets_of(kind.settings()):
            for parser, own in ((gateway, name), ("all", f"{gateway}_{name}")):
                options = gateways[parser]._option_string_actions  # type: ignore[index]
                assert flag(own) not in options
                assert flag(f"{own}_file") in options


def test_who_else_may_read_a_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(KEY)
    settings = CoreSettings(auth=True, admin_key_file=file)
    file.chmod(0o640)
    assert list(exposed_secret_files(settings)) == []
    file.chmod(0o644)
    assert [
        str(file) in said and "PORTICO_CORE_ADMIN_KEY_FILE" in said for said in exposed_secret_files(settings)
    ] == [True]


def test_no_sandbox_sees_a_file_of_a_secret(tmp_path: Path) -> None:
    for name in secrets_of(CoreSettings):
        file = tmp_path / name
        file.write_text(KEY)
        settings = read(CoreSettings, {**BESIDE.get(name, {}), f"{name}_file": file})
        assert str(file) in private_paths(settings).values()


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_only_the_line_break_at_the_end_is_dropped(ending: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(f" a\n\nb {ending}".encode())
    assert read_secret(file) == " a\n\nb "


@pytest.mark.parametrize("name", setup._SECRETS)
def test_headers_of_a_collector_are_read_from_a_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "headers"
    file.write_text("authorization=Bearer%20abc\n")
    monkeypatch.setenv(name, "")
    monkeypatch.setenv(f"{name}_FILE", str(file))
    setup.Telemetry("test").close()
    assert os.environ[name] == "authorization=Bearer%20abc"
    setup.Telemetry("test").close()  # as a child process would
    monkeypatch.setenv(f"{name}_FILE", str(file))
    with pytest.raises(ValueError, match=f"{name} and {name}_FILE set the same secret"):
        setup.Telemetry("test")


def test_the_command_line_reads_its_credential_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORTICO_CREDENTIAL", "")
    monkeypatch.setenv("PORTICO_CREDENTIAL_FILE", str(tmp_path / "nothing"))
    with pytest.raises(typer.Exit) as ended:
        connect("127.0.0.1:1")
    assert ended.value.exit_code == 2
    assert "PORTICO_CREDENTIAL_FILE names a file that can't be read" in capsys.readouterr().err.replace(
        "\n", ""
    )
    environment = {"PORTICO_CREDENTIAL_FILE": str(tmp_path / "key")}
    (tmp_path / "key").write_text(KEY)
    from_file(environment, "PORTICO_CREDENTIAL")
    assert environment == {"PORTICO_CREDENTIAL": KEY}


def test_settings_of_all_processes_may_have_secrets() -> None:
    """The tests here cover every settings class."""

    def below(base: type[BaseSettings]) -> set[type[BaseSettings]]:
        return {base} | {one for sub in base.__subclasses__() for one in below(sub)}

    ours = {one for one in below(BaseSettings) if one.__module__.startswith("portico.")}
    assert ours - {SecretSettings} == set(SETTINGS)
