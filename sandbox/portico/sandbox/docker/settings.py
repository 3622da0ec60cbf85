"""Which engine, runtime and image. Whoever knows the reference's variables finds them here."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

IMAGE: Final = "portico-sandbox-base"
NAMESPACE: Final = "portico"
TAG: Final = "latest"


@dataclass(frozen=True, slots=True)
class DockerSettings:
    url: str = ""  # of the engine; empty: DOCKER_HOST, or the socket of this machine
    runtime: str = ""  # as the engine calls it, `runsc` for gVisor; empty: the engine's own default
    registry: str = ""  # empty: images of this engine only, none is pulled
    namespace: str = NAMESPACE
    tag: str = TAG
    pool_size: int = 0  # sandboxes that wait ready, for the default limits
    weaker: bool = False  # work also where the engine cannot limit all; `capabilities.missing` tells what

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] | None = None, *, runtime: str = "", pool_size: int = 0
    ) -> "DockerSettings":
        """Registry, namespace and tag from RUNTIME_SANDBOX_REGISTRY, _IMAGE_NAMESPACE and _IMAGE_TAG."""
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
        return "/".join(filter(None, (self.registry, self.namespace, f"{IMAGE}:{self.tag}")))

    @property
    def backend(self) -> str:
        """The name of a backend with these settings."""
        return f"docker:{self.runtime}" if self.runtime else "docker"
