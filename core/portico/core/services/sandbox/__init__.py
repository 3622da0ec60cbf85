"""The RPCs of SandboxService."""
