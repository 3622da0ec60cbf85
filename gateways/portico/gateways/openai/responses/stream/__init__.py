"""A run's events as events and items of the Responses API."""
