"""The `portico` command, also as `python -m portico.cli`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from portico.process import container_init, inherited_state


def main() -> None:
    """Repairs inherited standard streams before anything else is imported: many modules need them."""
    inherited_state.repair_inherited_state()
    container_init.fork_from_process_one()
    with _grpc_silent():
        from portico.cli.main import app

    app(prog_name="portico")


@contextmanager
def _grpc_silent() -> Iterator[None]:
    """Stops log lines of gRPC in this process; child processes may write theirs."""
    if "GRPC_VERBOSITY" in os.environ:
        yield
        return
    os.environ["GRPC_VERBOSITY"] = "NONE"
    yield
    del os.environ["GRPC_VERBOSITY"]


if __name__ == "__main__":
    main()
