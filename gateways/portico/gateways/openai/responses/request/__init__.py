"""A request of the Responses API, read and checked."""
