"""The MCP gateway: sandboxes as an MCP server."""
