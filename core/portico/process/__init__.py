"""Process setup shared by core and gateways: settings, secrets, certificates, signals, inherited state."""
