"""Support for `!command` lines and %%bash cells where IPython is not installed."""


def translate(code: str) -> str:
    """Translates them to calls of the shell. Raises SyntaxError for other magics."""
    first, _, rest = code.lstrip().partition("\n")
    if first.strip() in ("%%bash", "%%sh"):
        return f"import subprocess as _shell; _shell.run(['/bin/sh', '-c', {rest!r}])\n"
    lines = []
    for line in code.split("\n"):
        bare = line.lstrip()
        if bare.startswith("%") or bare.rstrip().endswith("?"):
            raise SyntaxError(
                f"{bare.split()[0]}: magics and help need IPython, which this Python does not have"
            )
        if bare.startswith("!"):
            line = line[: len(line) - len(bare)] + f"__import__('os').system({bare[1:]!r}) and None"
        lines.append(line)
    return "\n".join(lines)
