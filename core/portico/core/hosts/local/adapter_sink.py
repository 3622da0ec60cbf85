"""Adapter sink: translates between an agent that uses a framework's types and the run."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from portico.agent import Context
from portico.agent.adapter_detection import framework_of, is_portico_item
from portico.agent.adapter_interface import Translation
from portico.agent.adapter_registry import FrameworkMissing, load_framework
from portico.core.hosts.base.agent_host import RunSink


class AdapterSink:
    """Translates a framework's items; without a translation, it chooses one by an item's type."""

    def __init__(self, run: RunSink, context: Context, translation: Translation | None = None) -> None:
        self.run = run
        self._context = context
        self._translation = translation

    def emit(self, item: Any) -> None:
        """Emit an item. Raises TypeError for an unknown type."""
        if is_portico_item(item):
            self.run.emit(item)
            return
        if self._translation is None and (name := framework_of(item)):
            try:
                self._translation = load_framework(name).open(self._context)
            except FrameworkMissing as error:
                raise TypeError(str(error)) from None
        if self._translation is None:
            self.run.emit(item)
            return
        for said in self._translation.say(item):
            self.run.emit(said)


async def run_with_adapter(
    translation: Translation,
    context: Context,
    run: RunSink,
    call: Callable[[AdapterSink, Mapping[str, Any]], Coroutine[Any, Any, None]],
) -> None:
    """Call the query function, and again with each answer to the framework's questions."""
    sink = AdapterSink(run, context, translation)
    try:
        arguments: Mapping[str, Any] | None = await translation.begin()
        while True:
            if arguments is not None:
                try:
                    await call(sink, arguments)
                finally:
                    # Also if the run is stopped: its output so far is kept.
                    for said in translation.rest():
                        run.emit(said)
            question = translation.question()
            if question is None:
                return
            arguments = translation.answered(await context.ask(question))
    finally:
        if not context.restarting:
            await translation.end()
