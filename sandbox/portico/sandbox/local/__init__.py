"""Sandboxes on this machine, without a daemon: namespaces, control groups and a system call filter."""
