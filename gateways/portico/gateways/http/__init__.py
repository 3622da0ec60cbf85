"""What the HTTP gateways share: the way to the core, bodies with limits, runs as streams."""
