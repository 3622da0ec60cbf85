"""Registry of a host's agents, by name."""

from collections import Counter
from collections.abc import Sequence

from portico.agent import AgentApp
from portico.agent.adapter_registry import FrameworkMissing, load_framework
from portico.core.errors import AgentNotFound
from portico.core.hosts.base.invoke import bind_arguments


class AgentRegistry:
    """The agents that a host serves; the first one is the default."""

    def __init__(self, apps: Sequence[AgentApp]) -> None:
        """Check the agents. Raises ValueError if one of them cannot be served."""
        if not apps:
            raise ValueError("no agent to serve; pass at least one AgentApp")
        self._default = apps[0]
        self._apps = {app.name: app for app in apps}
        if len(self._apps) < len(apps):
            (name, count), *_ = Counter(app.name for app in apps).most_common()
            raise ValueError(f"{count} agents have the name {name!r}; give each AgentApp its own name")
        for app in apps:
            if app.query_function is None:
                raise ValueError(f"agent {app.name!r} has no query function; decorate one with @app.query")
            try:
                offered = load_framework(app.framework).parameters if app.framework else ("msgs",)
                bind_arguments(app.query_function, dict.fromkeys(("self", "request", "context", *offered)))
            except (TypeError, FrameworkMissing) as error:
                raise ValueError(f"agent {app.name!r}: {error}") from None

    @property
    def agents(self) -> Sequence[AgentApp]:
        return sorted(self._apps.values(), key=lambda app: app.name)

    def find(self, name: str) -> AgentApp:
        """The agent of that name; an empty name means the default. Raises AgentNotFound."""
        if not name:
            return self._default
        try:
            return self._apps[name]
        except KeyError:
            raise AgentNotFound(name) from None
