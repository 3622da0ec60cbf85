"""Push notifications of A2A: configs, delivery, address checks."""
