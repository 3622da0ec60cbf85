"""The Responses API over WebSocket."""
