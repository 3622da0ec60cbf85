"""Sandboxes as an MCP server, for any MCP client."""
