"""Between the contract's messages and the core's own objects; the only place that knows both."""
