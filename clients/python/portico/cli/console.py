"""The console of the command line. Its output often contains text of callers, agents and models."""

from collections.abc import Iterable
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from portico.telemetry.log.terminal_text import escape_control_characters


class Console(rich.console.Console):
    """Prints no markup, and escapes control characters: printed text cannot control the terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(escape_control_characters(text), **options)  # before its width is measured

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment  # a control segment comes from rich, never from printed text
            else:
                yield Segment(escape_control_characters(segment.text), segment.style)
