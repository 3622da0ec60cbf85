"""A coder: runs the fenced Python of a message in its session's sandbox, and streams output and images.

    portico run examples/coder.py

Say for example:

    ```python
    x = 6
    x * 7
    ```

Names live on from message to message. A message without a fence is taken as Python itself.
"""

import base64
import codecs
import re
from collections.abc import AsyncIterator, Sequence

from portico.agent import AgentApp, Context, Message, Skill, image
from portico.sandbox.errors import SandboxError
from portico.sandbox.events import CellEnd, Rich, Stderr, Stdout

FENCE = re.compile(r"^```(?:python|py)?[ \t]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
IMAGES = ("image/png", "image/jpeg", "image/svg+xml")

app = AgentApp(
    "coder",
    description="Runs Python in a sandbox and shows what comes of it.",
    output_modes=("text/plain", "image/png"),
    skills=[Skill("python", "Run Python", "Runs fenced Python; names live on", ("python", "sandbox"))],
)


@app.query
async def query(msgs: Sequence[Message], context: Context) -> AsyncIterator[object]:
    text = msgs[-1].text
    for code in FENCE.findall(text) or [text]:
        try:
            async for item in run(context, code):
                yield item
        except SandboxError as error:
            yield f"\nThere is no sandbox: {error.message}\n"


async def run(context: Context, code: str) -> AsyncIterator[object]:
    """What a cell says and shows."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    async for event in context.sandbox().stream_cell(code):
        if isinstance(event, Rich):
            shown = next((kind for kind in IMAGES if kind in event.data), None)
            if shown is not None:
                yield image(f"data:{shown};base64,{base64.b64encode(event.data[shown]).decode()}")
            else:
                yield event.data.get("text/plain", b"").decode(errors="replace") + "\n"
        elif isinstance(event, CellEnd):
            if event.error is not None:
                yield f"{event.error.traceback}\n"
            if event.failure is not None:
                yield f"{event.failure.message}\n"
        elif isinstance(event, Stdout):
            yield decoder.decode(event.data)
        elif isinstance(event, Stderr):
            yield event.data.decode(errors="replace")


if __name__ == "__main__":
    app.run()
