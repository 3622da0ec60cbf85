"""Where untrusted tool calls will run. Nothing is built yet; SandboxService answers UNIMPLEMENTED."""
