"""Serves the benchmarks' agent with the peer, in the peer's own Python: app.py PORT.

The agent is the same as in agents/tokens.py. It is a Runner of framework "text", the peer's cheapest way
to stream, with logging disabled.
"""

# The peer lives in a venv of its own (.peer), so its types are unknown here.
# mypy: disable-error-code="import-not-found, misc"

import asyncio
import logging
import sys
from typing import Any

from agentscope_runtime.engine import AgentApp
from agentscope_runtime.engine.runner import Runner


class Tokens(Runner):
    """Yields the requested number of tokens: "200" without pauses, "paced 200" one per 20 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.framework_type = "text"

    async def query_handler(self, request: Any = None, **_context: Any) -> Any:
        *pace, count = request.input[-1].content[0].text.split()
        for number in range(int(count)):
            if pace:
                await asyncio.sleep(0.02)
            yield f"tok{number} "


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    app = AgentApp(app_name="tokens", app_description="says tokens", runner=Tokens())
    app.run(host="127.0.0.1", port=int(sys.argv[1]))
