"""Loader of agents' Python files, given as FILE or FILE:NAME."""

import importlib.util
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from portico.agent import AgentApp
from portico.agent.app import being_loaded
from portico.core.hosts.base.agent_errors import short_traceback

log = logging.getLogger(__name__)


class LoadError(Exception):
    """The file does not exist, cannot be imported or has no such agent; the message says what to do."""


def load_apps(target: str) -> Sequence[AgentApp]:
    """Import a Python file and return its agents.

    Args:
        target: `path/to/file.py` for all its agents, or `path/to/file.py:name` for the AgentApp in that
            variable.

    Raises:
        LoadError: The file does not exist, cannot be imported, or has no such agent.
    """
    file, _, name = target.partition(":") if not Path(target).exists() else (target, "", "")
    path = Path(file).resolve()
    if not path.is_file():
        raise LoadError(f"there is no file {file!r}; name the Python file that has your AgentApp")
    sys.path.insert(0, str(path.parent))
    with suppress(OSError):  # the working directory may have been removed
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())  # last: a json.py there must not replace the library's
    # A distinct module name: an agent in json.py must not replace the library's json.
    name_in_modules = f"portico_agent_{path.stem}_{abs(hash(str(path)))}"
    spec = importlib.util.spec_from_file_location(name_in_modules, path)
    if spec is None or spec.loader is None:
        raise LoadError(f"{file!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name_in_modules] = module
    loading = being_loaded.set(True)
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # includes SystemExit: a script that exits defines no agent
        log.debug("the file %s can't be imported", file, exc_info=True)
        raise LoadError(f"{file!r} can't be imported: {short_traceback(error, str(path))}") from None
    finally:
        being_loaded.reset(loading)
    if name:
        app = getattr(module, name, None)
        if not isinstance(app, AgentApp):
            raise LoadError(f"{file!r} has no AgentApp named {name!r}")
        app.source = str(path)
        return [app]
    apps = list(dict.fromkeys(value for value in vars(module).values() if isinstance(value, AgentApp)))
    if not apps:
        raise LoadError(f'{file!r} has no AgentApp; write `app = AgentApp("name")` at its top level')
    for app in apps:
        app.source = str(path)
    return apps
