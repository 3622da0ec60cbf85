"""Maps the agent protocol's enums (Status, Role, MessageType) to the contract's enum values."""

from portico.model.messages import MessageType, Role, Status
from portico.v1 import events_pb2 as pb

STATUS_TO_PROTO = {status: pb.RunStatus.Value(f"RUN_STATUS_{status.name}") for status in Status}
STATUS_FROM_PROTO = {value: status for status, value in STATUS_TO_PROTO.items()}
ROLE_TO_PROTO = {role: pb.Role.Value(f"ROLE_{role.name}") for role in Role}
ROLE_FROM_PROTO = {value: role for role, value in ROLE_TO_PROTO.items()}
TYPE_TO_PROTO = {kind: pb.MessageType.Value(f"MESSAGE_TYPE_{kind.name}") for kind in MessageType}
TYPE_FROM_PROTO = {value: kind for kind, value in TYPE_TO_PROTO.items()}
