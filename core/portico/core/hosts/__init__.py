"""Where agents execute: in this process or in worker processes."""
