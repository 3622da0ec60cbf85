"""The interfaces of all stores, and the records that pass through them."""
