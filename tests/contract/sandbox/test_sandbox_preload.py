"""Modules that are imported before a caller gets a sandbox."""

import pytest

from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.spec import Spec


async def test_modules_are_preloaded_or_refused_by_name(backend: Backend) -> None:
    wanted, absent = Spec(preload=("decimal", "colorsys", "decimal")), Spec(preload=("decimal", "no_such"))
    if "preload" in backend.capabilities.missing:
        with pytest.raises(errors.Unsupported, match="preload"):
            await backend.create(wanted)
        return
    box = await backend.create(wanted, user_id="ann")
    loaded = await box.run_cell("import sys; {'decimal', 'colorsys'} <= sys.modules.keys()")
    assert loaded.rich[0].data["text/plain"] == b"True"
    with pytest.raises(errors.InvalidRequest, match="preload: no_such: ModuleNotFoundError"):
        await backend.create(absent)
