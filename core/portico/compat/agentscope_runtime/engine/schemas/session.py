"""A conversation, as the reference's services keep it."""

from pydantic import BaseModel

from portico.compat.agentscope_runtime.engine.schemas.agent_schemas import Message


class Session(BaseModel):
    """Oldest message first."""

    id: str
    user_id: str
    messages: list[Message] = []
