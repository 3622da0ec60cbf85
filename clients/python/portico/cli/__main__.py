"""`python -m portico.cli` is the `portico` command."""

from portico.cli.main import app

if __name__ == "__main__":
    app(prog_name="portico")
