"""What is seen of a process of ours: spans, metrics, logs. It knows neither the core nor the gateways."""
