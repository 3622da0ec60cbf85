"""A conversation, as the reference's services store it."""

from pydantic import BaseModel

from portico.compat.agentscope_runtime.engine.schemas.agent_schemas import Message


class Session(BaseModel):
    """A session with its messages, oldest first."""

    id: str
    user_id: str
    messages: list[Message] = []
