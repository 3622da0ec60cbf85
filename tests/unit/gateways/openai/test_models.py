"""GET /models."""

import httpx
import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("prefix", ["/v1", "/compatible-mode/v1"])
async def test_agents_are_models(http: httpx.AsyncClient, prefix: str) -> None:
    def model(name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": 1767225600, "owned_by": "portico"}

    answer = await http.get(f"{prefix}/models")
    assert answer.json() == {"object": "list", "data": [model("scripted"), model("other")]}
    assert answer.headers["x-request-id"].startswith("req_")
    assert (await http.get(f"{prefix}/models/other")).json() == model("other")


@pytest.mark.parametrize("name", ["nobody", "openai/gpt-9", "a%20b"])
async def test_an_unknown_model(http: httpx.AsyncClient, name: str) -> None:
    answer = await http.get(f"/v1/models/{name}")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "scripted, other" in error["message"]
