"""Adapters of agent frameworks: `@app.query(framework="langgraph")`. See docs/frameworks.md."""

from portico.agent.adapter_interface import AdapterFactory, OneWayTranslation, Translation
from portico.agent.adapter_registry import FrameworkMissing, framework_names, load_framework

__all__ = [
    "AdapterFactory",
    "FrameworkMissing",
    "OneWayTranslation",
    "Translation",
    "framework_names",
    "load_framework",
]
