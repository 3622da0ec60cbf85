"""What every host shares: loading, registering and invoking agents, errors, threads."""
