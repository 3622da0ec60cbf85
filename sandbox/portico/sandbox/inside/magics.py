"""The notebook habits that are not Python: `!command` lines and cells that begin with %%bash."""

import ast


def translate(code: str) -> str:
    """`!command` lines and a leading `%%bash` become calls of the shell; other magics are left to fail."""
    first, _, rest = code.lstrip().partition("\n")
    if first.strip() in ("%%bash", "%%sh"):
        return f"import subprocess as _shell; _shell.run(['/bin/sh', '-c', {rest!r}])\n"
    if "!" not in code:
        return code
    try:
        ast.parse(code)
        return code  # a line that begins with ! inside a string
    except SyntaxError:
        pass
    lines = []
    for line in code.split("\n"):
        bare = line.lstrip()
        if bare.startswith("!"):
            line = line[: len(line) - len(bare)] + f"__import__('os').system({bare[1:]!r}) and None"
        lines.append(line)
    return "\n".join(lines)
