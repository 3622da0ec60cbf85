"""What adapters of several frameworks use: history, offered tools, input requests."""
