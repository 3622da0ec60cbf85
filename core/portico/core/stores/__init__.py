"""The core's persistent data: store interfaces and implementations. `open_stores.open_stores` opens them."""
