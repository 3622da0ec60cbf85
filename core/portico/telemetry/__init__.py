"""Telemetry of Portico's processes: spans, metrics, logs. Independent of core and gateways."""
