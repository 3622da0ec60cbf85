"""Every gateway can be started by its name, and all of them together."""

from portico.cli.main import gateway
from portico.gateways.gateway_registry import GATEWAYS


def test_there_is_a_command_for_each_gateway_and_one_for_all() -> None:
    names = [
        command.name or getattr(command.callback, "__name__", "") for command in gateway.registered_commands
    ]
    assert sorted(names) == sorted(["all", *GATEWAYS])
