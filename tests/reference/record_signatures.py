"""Records the parameters of AgentScope Runtime's public names: run it in an environment that has it.

It was run with 1.1.6.post2, and with 1.0.5 (and the argument 1.0) for the services that later versions no
longer have; signatures.json has both.
"""

import enum
import importlib
import inspect
import json
import sys
from typing import Any

PACKAGE = "agentscope_runtime"
SERVICES = "engine.services"
LATER = {
    "engine": ["AgentApp", "Runner", "LocalDeployManager", "DeployManager"],
    "engine.app": ["AgentApp"],
    "engine.app.agent_app": ["AgentApp"],
    "engine.runner": ["Runner"],
    "engine.schemas.agent_schemas": [
        *("AgentContent", "AgentRequest", "AgentResponse", "AgentRole", "AudioContent", "BaseRequest"),
        *("BaseResponse", "Content", "ContentType", "DataContent", "Error", "Event", "FileContent"),
        *("FunctionCall", "FunctionCallOutput", "FunctionParameters", "FunctionTool", "ImageContent"),
        *("McpApprovalRequest", "McpApprovalResponse", "McpCall", "McpCallOutput", "McpListTools"),
        *("McpListToolsTool", "Message", "MessageType", "RefusalContent", "Role", "RunStatus"),
        *("SequenceNumberGenerator", "TextContent", "Tool", "ToolCall", "ToolCallOutput", "VideoContent"),
    ],
    "engine.schemas.session": ["Session"],
    "engine.helpers.agent_api_builder": [
        *("ContentBuilder", "MessageBuilder", "ResponseBuilder", "StreamingResponseBuilder"),
    ],
    "engine.helpers.agent_api_client": ["HTTPAgentAPIClient"],
    "engine.deployers": ["DeployManager", "LocalDeployManager"],
    "engine.deployers.base": ["DeployManager"],
    "engine.deployers.local_deployer": ["LocalDeployManager"],
    "engine.deployers.state": ["Deployment"],
    "engine.deployers.utils.deployment_modes": ["DeploymentMode"],
    f"{SERVICES}.base": ["Service", "ServiceLifecycleManagerMixin", "ServiceWithLifecycleManager"],
    f"{SERVICES}.service_factory": ["ServiceFactory"],
    f"{SERVICES}.sandbox": ["SandboxService", "SandboxServiceFactory"],
    "sandbox": ["BaseSandbox", "BaseSandboxAsync", "FilesystemSandbox", "FilesystemSandboxAsync"],
    "sandbox.enums": ["SandboxType"],
}
EARLIER = {
    f"{SERVICES}.agent_state": [
        *("StateService", "InMemoryStateService", "RedisStateService", "StateServiceFactory"),
    ],
    f"{SERVICES}.session_history": [
        *("SessionHistoryService", "InMemorySessionHistoryService", "RedisSessionHistoryService"),
        "SessionHistoryServiceFactory",
    ],
    f"{SERVICES}.memory": [
        *("MemoryService", "InMemoryMemoryService", "RedisMemoryService"),
    ],
    "adapters.agentscope.memory": ["AgentScopeSessionHistoryMemory"],
    "adapters.agentscope.long_term_memory": ["AgentScopeLongTermMemory"],
    "adapters.agentscope.message": ["agentscope_msg_to_message", "message_to_agentscope_msg"],
    "adapters.agentscope.tool": ["sandbox_tool_adapter"],
}


def told(value: Any, *, inherited: bool = False) -> dict[str, Any]:
    """Returns a function as its parameters, and a class as its constants, fields and public methods.

    With `inherited`, methods that come from other packages are included.
    """
    if not inspect.isclass(value):
        return {"parameters": parameters(value)} if callable(value) else {}
    if issubclass(value, enum.Enum):
        return {"constants": {member.name: member.value for member in value}}
    fields = sorted(getattr(value, "model_fields", None) or getattr(value, "__dataclass_fields__", {}))
    methods, constants = {}, {}
    for name in dir(value):
        owner = next(one for one in value.__mro__ if name in vars(one))
        if not inherited and owner.__module__.partition(".")[0] != PACKAGE:
            continue
        member = inspect.getattr_static(value, name)
        if name.startswith("_") and name != "__init__":
            continue
        if isinstance(member, str):
            constants[name] = member
        elif callable(getattr(value, name)) and not (
            name == "__init__" and "__dataclass_fields__" in vars(owner)
        ):
            methods[name] = parameters(getattr(value, name))
    return {"constants": constants, "fields": fields, "methods": methods}


def parameters(function: Any) -> list[list[Any]]:
    """Returns the name, kind and requirement of each parameter."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        return []
    return [
        [one.name, one.kind.name, one.default is one.empty]
        for one in signature.parameters.values()
        if one.name not in ("self", "cls")
    ]


def record(package: str, names: dict[str, list[str]]) -> dict[str, Any]:
    return {
        module: {name: told(getattr(importlib.import_module(f"{package}.{module}"), name)) for name in wanted}
        for module, wanted in names.items()
    }


if __name__ == "__main__":
    print(json.dumps(record(PACKAGE, EARLIER if sys.argv[1:] == ["1.0"] else LATER), sort_keys=True))
