"""Settings of the docker backend: engine, runtime and image. It reads the environment variables of AgentScope
Runtime."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

IMAGE: Final = "portico-sandbox-base"
NAMESPACE: Final = "portico"
TAG: Final = "latest"


@dataclass(frozen=True, slots=True)
class DockerSettings:
    """Settings of a docker backend."""

    url: str = ""  # of the engine; empty: DOCKER_HOST, or this machine's socket
    runtime: str = ""  # the engine's name of it, such as `runsc` for gVisor; empty: the engine's default
    registry: str = ""  # empty: use only images that the engine has, and pull none
    namespace: str = NAMESPACE
    tag: str = TAG
    pool_size: int = 0  # sandboxes in the warm pool, with the default limits
    weaker: bool = False  # accept an engine that cannot enforce all limits; see `capabilities.missing`

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] | None = None, *, runtime: str = "", pool_size: int = 0
    ) -> "DockerSettings":
        """Reads registry, namespace and tag from RUNTIME_SANDBOX_REGISTRY, RUNTIME_SANDBOX_IMAGE_NAMESPACE
        and RUNTIME_SANDBOX_IMAGE_TAG."""
        environ = os.environ if environ is None else environ
        return cls(
            runtime=runtime,
            registry=environ.get("RUNTIME_SANDBOX_REGISTRY", ""),
            namespace=environ.get("RUNTIME_SANDBOX_IMAGE_NAMESPACE", NAMESPACE),
            tag=environ.get("RUNTIME_SANDBOX_IMAGE_TAG", TAG),
            pool_size=pool_size,
        )

    @property
    def image(self) -> str:
        """The full name of the image: registry, namespace, name and tag."""
        return "/".join(filter(None, (self.registry, self.namespace, f"{IMAGE}:{self.tag}")))

    @property
    def backend(self) -> str:
        """The name of a backend with these settings."""
        return f"docker:{self.runtime}" if self.runtime else "docker"
