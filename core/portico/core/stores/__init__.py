"""What a core keeps, and the stores that keep it. `open.open_stores` picks them by URL."""
