"""The blocking client, for code without asyncio."""
