"""Makes a root file system of this machine's files: its Python with IPython and no other packages, a shell,
the usual commands, and their shared libraries. It serves where no registry can be reached."""

import io
import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import IO, Final

from portico.sandbox import errors

_COMMANDS: Final = (
    "sh", "bash", "awk", "basename", "cat", "chmod", "chown", "comm", "cp", "cut", "date", "dd", "df", "diff",
    "dirname", "du", "echo", "env", "expr", "false", "find", "grep", "gzip", "head", "hostname", "id", "kill",
    "ln", "ls", "mkdir", "mkfifo", "mktemp", "mv", "nohup", "od", "printf", "ps", "pwd", "readlink",
    "realpath", "rm", "rmdir", "sed", "seq", "setsid", "sleep", "sort", "stat", "stty", "su", "tail", "tar",
    "tee", "test", "timeout", "touch", "tr", "true", "tty", "uname", "uniq", "wc", "which",
    "whoami", "xargs", "yes",
)  # fmt: skip
_FILES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/mime.types", "/lib/terminfo/x/xterm-256color")
_LEFT_OUT: Final = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "ensurepip",
    "turtledemo",
    "lib2to3",
}
_NOT_NEEDED: Final = ("jedi", "parso")  # required by IPython for completion only
_TEXTS: Final = {
    "etc/passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
_DIRECTORIES: Final = {"root": 0o711, "tmp": 0o1777, "workspace": 0o755, "var": 0o755, "run": 0o755}


def write_root(file: IO[bytes]) -> None:
    """Writes the root as a tar archive. Raises BackendUnavailable where `ldd` is missing."""
    with tarfile.open(fileobj=file, mode="w", dereference=True) as tar:
        _Root(tar).write()
    file.flush()


class _Root:
    """Writes the files of the root, each once, to a tar archive."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._known: set[str] = set()

    def write(self) -> None:
        for name in ("bin", "sbin", "lib", "lib64"):  # links on systems with a merged /usr
            if os.path.islink(f"/{name}"):
                self._link(name, os.readlink(f"/{name}"))
        for name, mode in _DIRECTORIES.items():
            self._entry(name, tarfile.DIRTYPE, mode)
        for name, text in _TEXTS.items():
            self._entry(name, tarfile.REGTYPE, 0o644, text.encode())
        programs = [found for name in _COMMANDS if (found := shutil.which(name, path="/usr/bin:/bin"))]
        for path in (*programs, *_FILES):
            if os.path.exists(path):
                self._add(path)
        modules = self._python()
        for library in _libraries([sys.executable, *programs, *modules]):
            # A library from elsewhere, such as of a Python in a home directory, goes to the linker's default
            # path.
            ours = library.startswith(("/usr/", "/lib"))
            self._add(library, "" if ours else f"usr/lib/{os.path.basename(library)}")

    def _python(self) -> list[str]:
        """Adds the interpreter below /usr/local, wherever it is here; returns its extension modules."""
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self._add(os.path.realpath(sys.executable), f"usr/local/bin/{name}", 0o755)
        for alias in ("python3", "python"):
            self._link(f"usr/local/bin/{alias}", name)
        library = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}))
        modules: list[str] = []
        for folder, folders, files in os.walk(library):
            folders[:] = [one for one in folders if one not in _LEFT_OUT and not one.startswith("config-")]
            for file in files:
                path = os.path.join(folder, file)
                self._add(path, f"usr/local/lib/{name}/{os.path.relpath(path, library)}")
                modules += [path] if file.endswith(".so") else []
        places = [path for path in site.getsitepackages(["/usr/local"]) if f"/{name}/" in path]
        for source, place in _distributions("ipython"):
            self._add(source, f"{places[-1].lstrip('/')}/{place}")
            modules += [source] if source.endswith(".so") else []
        return modules

    def _add(self, path: str, name: str = "", mode: int | None = None) -> None:
        """Adds a file. Links in its directory are resolved, because the root has the same links."""
        folder, base = os.path.split(path)
        name = name or os.path.join(os.path.realpath(folder), base).lstrip("/")
        if name in self._known:
            return
        self._known.add(name)
        member = self._tar.gettarinfo(path, name)
        if not member.isreg() and member.type != tarfile.LNKTYPE:
            return
        member.type, member.linkname = tarfile.REGTYPE, ""
        member.size = os.path.getsize(path)
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mode = mode if mode is not None else member.mode | 0o444
        with open(path, "rb") as file:
            self._tar.addfile(member, file)

    def _link(self, name: str, target: str) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = tarfile.SYMTYPE, target
        self._tar.addfile(member)

    def _entry(self, name: str, kind: bytes, mode: int, content: bytes = b"") -> None:
        member = tarfile.TarInfo(name)
        member.type, member.mode, member.size = kind, mode, len(content)
        self._tar.addfile(member, io.BytesIO(content))


def _distributions(top: str) -> Iterator[tuple[str, str]]:
    """Yields the files of a distribution and of its dependencies: each path here, and the path below
    site-packages."""
    waiting, known = [top], set(_NOT_NEEDED)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in known:
            continue
        known.add(name)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another system, or for an extra
        waiting += [re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in distribution.requires or ()]
        for file in distribution.files or ():
            if ".." not in file.parts and os.path.isfile(path := str(file.locate())):
                yield path, str(file)


def _libraries(programs: Iterable[str]) -> list[str]:
    """Returns the shared libraries that programs load, by `ldd`, and the dynamic linker."""
    try:
        told = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout  # noqa: S603, S607
    except OSError as error:
        raise errors.BackendUnavailable(f"a local root needs ldd: {error}") from None
    words = (word for line in told.splitlines() if line.startswith(("\t", " ")) for word in line.split())
    return sorted({word for word in words if word.startswith("/") and os.path.isfile(word)})
