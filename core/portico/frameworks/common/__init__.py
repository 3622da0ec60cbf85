"""Code that several framework adapters share: history, offered tools, input requests."""
