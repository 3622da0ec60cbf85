"""The bubblewrap backend: any root file system that has a Python in it, and any command in that."""
