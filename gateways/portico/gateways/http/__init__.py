"""Code shared by the HTTP gateways: connection to the core, bounded request bodies, runs as streams."""
