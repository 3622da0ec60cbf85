"""An agent that tells what it sees of its surroundings, and leaves an orphan behind when it is asked to."""

import subprocess
from collections.abc import Sequence

from portico.agent import AgentApp, Context, Message

app = AgentApp("surrounded")


@app.query
def query(msgs: Sequence[Message], context: Context) -> str:
    text = msgs[-1].text
    if text == "orphans":
        # Their parent ends at once, and then they do.
        for _ in range(5):
            subprocess.run(["sh", "-c", "sleep 0.1 &"], check=True)
    return f"heard {text}"
