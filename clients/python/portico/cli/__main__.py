"""The `portico` command, also as `python -m portico.cli`."""

from portico.process import init, surroundings


def main() -> None:
    """Mend what was inherited before anything else is imported: much of it wants standard streams."""
    surroundings.mend()
    init.leave_process_one()
    from portico.cli.main import app

    app(prog_name="portico")


if __name__ == "__main__":
    main()
