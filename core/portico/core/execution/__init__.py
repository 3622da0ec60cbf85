"""One run as its agent executes it: emitted events, budgets, input, child runs."""
