"""The client for code without asyncio."""
