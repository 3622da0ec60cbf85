"""Builds the image of sandboxes from this project's Dockerfile: on a base image of a registry, or, without
registry and network, on a root file system made of this machine's own Python and programs."""

import asyncio
import hashlib
import io
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from portico.sandbox import errors, inside
from portico.sandbox.docker.engine import Engine
from portico.sandbox.docker.local_root import write_root
from portico.sandbox.docker.settings import DockerSettings

AGENT: Final = "portico.agent"  # label with the digest of the supervisor's code in an image
LOCAL_BASE: Final = "portico-local-root:latest"
PLOTS: Final = "matplotlib"
FONTS: Final = "fonts-noto-cjk"  # Debian's package; the Dockerfile selects the font
_CODE: Final = Path(inside.__file__).parent
_PACKAGE: Final = Path(__file__).parents[1]


def agent_digest() -> str:
    """Returns a digest of the code in an image: other versions of it speak another protocol."""
    digest = hashlib.sha256()
    for path in sorted(_CODE.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


async def build(
    settings: DockerSettings,
    *,
    base: str = "",
    packages: tuple[str, ...] = (),
    local_root: bool = False,
    plots: bool | None = None,
    say: Callable[[str], None] = lambda _line: None,
) -> str:
    """Builds the image and returns its name.

    Args:
        settings: The engine, and the name of the image.
        base: Base image; empty for the Dockerfile's default.
        packages: Python packages to install.
        local_root: Build on this machine's Python and programs.
        plots: Install matplotlib, and fonts for Chinese, Japanese and Korean; None: on the default base only.
        say: Receives each line of the build's output.

    Raises:
        BackendUnavailable: The build failed; the message is the engine's.
    """
    if plots or (plots is None and not base and not local_root):
        packages, fonts = (PLOTS, *packages), FONTS
    else:
        fonts = ""
    engine = Engine(settings.url)
    try:
        await engine.open()
        if local_root:
            await _import_local_root(engine)
            base = LOCAL_BASE
        steps = await engine.call(
            "build",
            fileobj=await asyncio.to_thread(_context),
            custom_context=True,
            tag=settings.image,
            labels={AGENT: agent_digest()},
            buildargs={"PACKAGES": " ".join(packages), "FONTS": fonts} | ({"BASE": base} if base else {}),
            network_mode=None if packages or not local_root else "none",
            rm=True,
            forcerm=True,
            decode=True,
        )
        await asyncio.to_thread(_follow, steps, say)
    finally:
        await engine.close()
    return settings.image


async def _import_local_root(engine: Engine) -> None:
    repository, _, tag = LOCAL_BASE.partition(":")
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        await asyncio.to_thread(write_root, file)
        told = await engine.call("import_image_from_file", file.name, repository=repository, tag=tag)
    if "error" in str(told):
        raise errors.BackendUnavailable(f"the engine cannot import the local root: {str(told)[-500:]}")


def _context() -> io.BytesIO:
    """Returns the build context: a tar archive of the Dockerfile and the supervisor's code."""
    places = (_PACKAGE / "images", _PACKAGE.parents[1] / "images")  # as installed; in the source tree
    dockerfile = next(path / "base" / "Dockerfile" for path in places if path.is_dir())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(dockerfile, "Dockerfile", filter=_plain)
        for path in sorted(_CODE.glob("*.py")):
            tar.add(path, f"portico_inside/{path.name}", filter=_plain)
    buffer.seek(0)
    return buffer


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member


def _follow(steps: Any, say: Callable[[str], None]) -> None:
    for step in steps:
        if "error" in step:
            raise errors.BackendUnavailable(f"the image cannot be built: {step['error']}")
        if line := step.get("stream", "").strip():
            say(line)
