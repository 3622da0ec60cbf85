"""Shared parts of the frameworks' agents: the model's address, and the tool's data."""

import os

MODEL_URL = os.environ.get("SCRIPTED_MODEL_URL", "http://127.0.0.1:1/v1")


def weather(city: str) -> str:
    return f"sunny in {city}"
