"""Worker processes: the host that starts them, and the service that executes agents inside them."""
