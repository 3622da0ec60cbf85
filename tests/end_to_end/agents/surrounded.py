"""An agent that reports its environment, and leaves an orphan process on request."""

import subprocess
from collections.abc import Sequence

from portico.agent import AgentApp, Context, Message

app = AgentApp("surrounded")


@app.query
def query(msgs: Sequence[Message], context: Context) -> str:
    text = msgs[-1].text
    if text == "orphans":
        # Their parent ends immediately, and then they end.
        for _ in range(5):
            subprocess.run(["sh", "-c", "sleep 0.1 &"], check=True)
    return f"heard {text}"
