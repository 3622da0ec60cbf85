"""The tools of a sandbox: names, JSON Schemas and implementations, in one table for all callers."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from portico.sandbox import errors
from portico.sandbox.events import Entry
from portico.sandbox.file_names import from_text, to_text
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.tool_results import Result, cell_result, failed_result, result_of, text_part, text_result


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool of a sandbox."""

    name: str
    group: str  # generic or filesystem
    description: str
    properties: dict[str, Any]
    required: tuple[str, ...]
    run: Callable[[SandboxHandle, dict[str, Any]], Awaitable[Result]]

    def schema(self) -> dict[str, Any]:
        """Returns its JSON Schema as a function tool."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": {
                    "type": "object",
                    "properties": self.properties,
                    "required": list(self.required),
                    "additionalProperties": False,
                },
            },
        }


def list_tools(sandbox_type: str) -> dict[str, dict[str, Any]]:
    """Returns the tools of a sandbox type: {group: {name: {"name", "json_schema"}}}."""
    listed: dict[str, dict[str, Any]] = {}
    for tool in TOOLS.values():
        if tool.group == "generic" or sandbox_type == tool.group:
            listed.setdefault(tool.group, {})[tool.name] = {"name": tool.name, "json_schema": tool.schema()}
    return listed


async def call_tool(box: SandboxHandle, name: str, arguments: dict[str, Any] | None = None) -> Result:
    """Calls a tool. A failure inside the sandbox is a result with isError. Raises SandboxNotFound,
    SandboxGone, SandboxPaused, and InvalidRequest for an unknown tool or invalid arguments."""
    tool = TOOLS.get(name)
    if tool is None or (tool.group != "generic" and tool.group != box.spec.type):
        raise errors.InvalidRequest(f"unknown tool {name!r} for a {box.spec.type} sandbox")
    arguments = dict(arguments or {})
    for missing in (key for key in tool.required if key not in arguments):
        raise errors.InvalidRequest(f"{name}: {missing} is missing")
    for key, value in arguments.items():
        declared = tool.properties.get(key)
        if declared is None or not isinstance(value, _TYPES[declared["type"]]):
            raise errors.InvalidRequest(
                f"{name}: {key} is not an argument, or not a {(declared or {}).get('type')}"
            )
    try:
        return await tool.run(box, arguments)
    except (errors.SandboxGone, errors.SandboxPaused, errors.SandboxNotFound):
        raise
    except errors.SandboxError as error:
        return failed_result(error)


async def _cell(box: SandboxHandle, arguments: dict[str, Any]) -> Result:
    result = await box.run_cell(arguments["code"])
    if isinstance(result.end.failure, errors.SandboxGone):
        raise result.end.failure
    return cell_result(result)


async def _shell(box: SandboxHandle, arguments: dict[str, Any]) -> Result:
    result = await box.run_shell(arguments["command"])
    if isinstance(result.failure, errors.SandboxGone):
        raise result.failure
    content = [text_part(result.stdout.decode(errors="replace"), "stdout")] if result.stdout else []
    if result.stderr:
        content.append(text_part(result.stderr.decode(errors="replace"), "stderr"))
    content.append(text_part(str(result.exit_code), "returncode"))
    structured = None
    if result.failure is not None:
        content.append(text_part(f"{result.failure.reason}: {result.failure.message}", "error"))
        structured = {"reason": result.failure.reason}
    return result_of(content, not result.ok, structured)


async def _read(box: SandboxHandle, arguments: dict[str, Any]) -> Result:
    return text_result((await box.files.read(from_text(arguments["path"]))).decode(errors="replace"))


async def _read_many(box: SandboxHandle, arguments: dict[str, Any]) -> Result:
    parts, failed = [], 0
    for path in arguments["paths"]:
        try:
            parts.append(f"{path}:\n{(await box.files.read(from_text(path))).decode(errors='replace')}\n")
        except (errors.SandboxGone, errors.SandboxPaused):
            raise
        except errors.SandboxError as error:
            failed += 1
            parts.append(f"{path}: Error - {error.message}\n")
    return text_result("\n---\n".join(parts), failed=bool(parts) and failed == len(parts))


async def _write(box: SandboxHandle, arguments: dict[str, Any]) -> Result:
    await box.files.write(from_text(arguments["path"]), arguments["content"])
    return text_result(f"Successfully wrote to {arguments['path']}")


async def _edit(box: SandboxHandle, arguments: dict[str, Any]) -> Result:
    edits = []
    for edit in arguments["edits"]:
        if not isinstance(edit, dict) or not all(
            isinstance(edit.get(key), str) for key in ("oldText", "newText")
        ):
            raise errors.InvalidRequest("edits: each must have the texts oldText and newText")
        edits.append((edit["oldText"], edit["newText"]))
    path, dry = from_text(arguments["path"]), arguments.get("dryRun", False)
    return text_result(await box.files.edit(path, edits, dry))


async def _mkdir(box: SandboxHandle, arguments: dict[str, Any]) -> Result:
    await box.files.make_directory(from_text(arguments["path"]))
    return text_result(f"Successfully created directory {arguments['path']}")


async def _list(box: SandboxHandle, arguments: dict[str, Any]) -> Result:
    entries, more = await box.files.list_page(from_text(arguments["path"]))
    lines = [f"{'[DIR]' if entry.type == 'directory' else '[FILE]'} {_name(entry)}" for entry in entries]
    lines += ["[MORE] There are more entries; search_files finds them by name."] if more else []
    return text_result("\n".join(lines))


async def _tree(box: SandboxHandle, arguments: dict[str, Any]) -> Result:
    top: list[dict[str, Any]] = []
    path = from_text(arguments["path"])
    children = {path.rstrip("/") or ".": top}
    entries, more = await box.files.list_page(path, depth=64)
    if more:
        raise errors.LimitExceeded(f"more than {len(entries)} entries; list a subdirectory", "output")
    for entry in entries:
        node: dict[str, Any] = {
            "name": _name(entry),
            "type": "directory" if entry.type == "directory" else "file",
        }
        if entry.type == "directory":
            node["children"] = children[entry.path] = []
        children[entry.path.rpartition("/")[0]].append(node)
    return text_result(json.dumps(top, indent=2))


async def _move(box: SandboxHandle, arguments: dict[str, Any]) -> Result:
    await box.files.move(from_text(arguments["source"]), from_text(arguments["destination"]))
    return text_result(f"Successfully moved {arguments['source']} to {arguments['destination']}")


async def _search(box: SandboxHandle, arguments: dict[str, Any]) -> Result:
    pattern = arguments["pattern"]
    if not any(character in pattern for character in "*?["):
        pattern = f"*{pattern}*"
    exclude = [from_text(each) for each in arguments.get("excludePatterns", ())]
    path = from_text(arguments["path"])
    found = await box.files.search(path, from_text(pattern), exclude=exclude)
    return text_result("\n".join(to_text(one.path) for one in found) or "No matches found")


async def _info(box: SandboxHandle, arguments: dict[str, Any]) -> Result:
    entry = await box.files.stat(from_text(arguments["path"]))
    moments = {"created": entry.changed, "modified": entry.modified, "accessed": entry.accessed}
    told: dict[str, Any] = {"size": entry.size}
    told |= {name: datetime.fromtimestamp(moment, UTC).isoformat() for name, moment in moments.items()}
    told |= {"isDirectory": entry.type == "directory", "isFile": entry.type == "file"}
    told |= {"permissions": f"{entry.mode & 0o777:o}"}
    lines = (
        f"{key}: {str(value).lower() if isinstance(value, bool) else value}" for key, value in told.items()
    )
    return text_result("\n".join(lines), structured=told)


async def _allowed(box: SandboxHandle, _arguments: dict[str, Any]) -> Result:
    paths = ["/workspace", "/tmp", *(mount.target for mount in box.spec.mounts)]  # noqa: S108
    return text_result("\n".join(["Allowed directories:", *paths]))


def _name(entry: Entry) -> str:
    return to_text(entry.path.rpartition("/")[2])


_TYPES: Final[dict[str, type]] = {"string": str, "array": list, "boolean": bool}
_TEXT: Final = {"type": "string"}
_TEXTS: Final = {"type": "array", "items": _TEXT}
_EDITS: Final = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"oldText": _TEXT, "newText": _TEXT},
        "required": ["oldText", "newText"],
    },
}
_PATH: Final = {"path": _TEXT}

TOOLS: Final = {
    tool.name: tool
    for tool in (
        Tool(
            "run_ipython_cell",
            "generic",
            "Run Python code. Variables are kept between cells.",
            {"code": _TEXT},
            ("code",),
            _cell,
        ),
        Tool(
            "run_shell_command", "generic", "Run a shell command.", {"command": _TEXT}, ("command",), _shell
        ),
        Tool("read_file", "filesystem", "Read a text file.", _PATH, ("path",), _read),
        Tool(
            "read_multiple_files",
            "filesystem",
            "Read several text files.",
            {"paths": _TEXTS},
            ("paths",),
            _read_many,
        ),
        Tool(
            "write_file",
            "filesystem",
            "Create a file or replace its content.",
            {**_PATH, "content": _TEXT},
            ("path", "content"),
            _write,
        ),
        Tool(
            "edit_file",
            "filesystem",
            "Replace texts in a file; returns a diff.",
            {**_PATH, "edits": _EDITS, "dryRun": {"type": "boolean"}},
            ("path", "edits"),
            _edit,
        ),
        Tool(
            "create_directory", "filesystem", "Create a directory and its parents.", _PATH, ("path",), _mkdir
        ),
        Tool("list_directory", "filesystem", "List a directory.", _PATH, ("path",), _list),
        Tool(
            "directory_tree",
            "filesystem",
            "List all entries below a directory, as JSON.",
            _PATH,
            ("path",),
            _tree,
        ),
        Tool(
            "move_file",
            "filesystem",
            "Move or rename a file or directory.",
            {"source": _TEXT, "destination": _TEXT},
            ("source", "destination"),
            _move,
        ),
        Tool(
            "search_files",
            "filesystem",
            "Find files and directories by a pattern.",
            {**_PATH, "pattern": _TEXT, "excludePatterns": _TEXTS},
            ("path", "pattern"),
            _search,
        ),
        Tool(
            "get_file_info",
            "filesystem",
            "Get size, times and permissions of a file.",
            _PATH,
            ("path",),
            _info,
        ),
        Tool(
            "list_allowed_directories",
            "filesystem",
            "List the directories that file tools can access.",
            {},
            (),
            _allowed,
        ),
    )
}
