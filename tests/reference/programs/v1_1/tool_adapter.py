from agentscope_runtime.adapters.agentscope.tool import sandbox_tool_adapter

wrapped_tool = sandbox_tool_adapter(sandbox.browser_navigate)
