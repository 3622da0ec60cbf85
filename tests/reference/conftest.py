"""Programs written for AgentScope Runtime. Some need AgentScope 1, which is in a separate venv."""

from importlib.metadata import PackageNotFoundError, version

try:
    present = version("agentscope").startswith("1.")
except PackageNotFoundError:
    present = False
if not present:
    # `make test-frameworks` runs them where it is.
    collect_ignore_glob = ["test_agents.py", "test_agentscope_*.py"]
