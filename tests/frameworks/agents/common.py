"""What the agents of all frameworks share: the model's address, and what their tool knows."""

import os

MODEL_URL = os.environ.get("SCRIPTED_MODEL_URL", "http://127.0.0.1:1/v1")


def weather(city: str) -> str:
    return f"sunny in {city}"
