"""Records deployments in one file each, so that another process can stop them."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Deployment:
    """A recorded deployment. `created_at` is ISO 8601; `config` has the data for stopping it."""

    id: str
    platform: str
    url: str
    agent_source: str | None = None
    created_at: str = ""
    status: str = "running"
    token: str | None = None
    config: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Deployment":
        """Reads a record. Raises TypeError for malformed data."""
        return cls(**data)


class DeploymentStateManager:
    """Stores the records below `state_dir`, by default ~/.portico/deployments."""

    def __init__(self, state_dir: str | None = None) -> None:
        self.state_dir = Path(state_dir) if state_dir else Path.home() / ".portico" / "deployments"

    def _file(self, deploy_id: str) -> Path:
        if not deploy_id or not all(letter.isalnum() or letter in "-_" for letter in deploy_id):
            raise KeyError(deploy_id)
        return self.state_dir / f"{deploy_id}.json"

    def save(self, deployment: Deployment) -> None:
        self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = self._file(deployment.id)
        new = file.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(deployment.to_dict()))
        new.replace(file)

    def get(self, deploy_id: str) -> Deployment | None:
        try:
            return Deployment.from_dict(json.loads(self._file(deploy_id).read_text()))
        except (KeyError, OSError, ValueError, TypeError):
            return None

    def list(self) -> "list[Deployment]":
        found = [self.get(file.stem) for file in sorted(self.state_dir.glob("*.json"))]
        return [deployment for deployment in found if deployment is not None]

    def update_status(self, deploy_id: str, status: str) -> None:
        """Sets a deployment's status. Raises KeyError."""
        deployment = self.get(deploy_id)
        if deployment is None:
            raise KeyError(deploy_id)
        deployment.status = status
        self.save(deployment)

    def remove(self, deploy_id: str) -> None:
        self._file(deploy_id).unlink(missing_ok=True)
