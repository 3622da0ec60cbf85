"""Objects that a cell displays, in formats that the core does not parse."""

import asyncio

import pytest

from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.inside import wire
from portico.sandbox.spec import Limits, Spec

SHOWN = """
class Shown:
    def __init__(self, **forms): self.forms = forms
    def __repr__(self): return "shown"
    def _repr_mimebundle_(self, **_): return {k.replace("_", "/"): form for k, form in self.forms.items()}
"""
FORGE = """
import os, struct
def forge(data, times=1):
    frames = (struct.pack("!I", len(data)) + data) * times
    while frames: frames = frames[os.write(900, frames):]
def shown(role, count, *forms):
    return struct.pack("!BB", role, count) + b"".join(struct.pack("!BI", len(k), n) + k for k, n in forms)
"""


@pytest.fixture
async def roomy(backend: Backend) -> SandboxHandle:
    """A sandbox with enough memory for objects that are far too large."""
    return await backend.create(Spec(limits=Limits(memory_bytes=1 << 30, call_seconds=60)))


async def test_json_is_made_inside_and_comes_as_it_was_made(box: SandboxHandle) -> None:
    code = f"{SHOWN}\nShown(application_json={{'a': [float('nan'), '\\ud800', 10**4000]}}, text_html='<b>')"
    data = (await box.run_cell(code)).rich[0].data
    assert data["application/json"] == b'{"a": [NaN, "\\ud800", 1' + b"0" * 4000 + b"]}"
    assert data["text/html"] == b"<b>"


async def test_bytes_and_base64_are_both_the_same_content(box: SandboxHandle) -> None:
    code = f"{SHOWN}\nShown(image_png=b'\\x89PNG', image_gif='R0lG', image_jpeg='no base64!')"
    data = (await box.run_cell(code)).rich[0].data
    assert (data["image/png"], data["image/gif"], data["image/jpeg"]) == (b"\x89PNG", b"GIF", b"no base64!")


async def test_a_form_that_is_too_large_is_left_out_and_told(roomy: SandboxHandle) -> None:
    code = f"{SHOWN}\nShown(application_json=[[]] * 5_500_000, text_html='kept')"
    result = await roomy.run_cell(code)
    assert [rich.data for rich in result.rich] == [{"text/html": b"kept", "text/plain": b"shown"}]
    failure = result.end.failure
    assert isinstance(failure, errors.LimitExceeded)
    assert (failure.limit, failure.kernel_lost) == ("output", False)
    assert "application/json" in failure.message
    assert (await roomy.run_cell("1")).ok


async def test_an_object_of_many_large_forms_is_cut_to_what_a_message_holds(roomy: SandboxHandle) -> None:
    code = f"{SHOWN}\nShown(**{{f'text_{{number}}': 'x' * 3_000_000 for number in range(6)}})"
    result = await roomy.run_cell(code)
    assert isinstance(result.end.failure, errors.LimitExceeded)
    assert 0 < sum(map(len, result.rich[0].data.values())) <= wire.OBJECT_BYTES
    many = await roomy.run_cell(f"{SHOWN}\nShown(**{{f'text_{{number}}': 'x' for number in range(5_000)}})")
    assert isinstance(many.end.failure, errors.LimitExceeded)
    assert len(many.rich[0].data) == wire.FORMS


async def test_a_text_that_is_too_large_is_told_too(roomy: SandboxHandle) -> None:
    result = await roomy.run_cell("'x' * 20_000_000")
    assert isinstance(result.end.failure, errors.LimitExceeded)
    assert result.rich == []


async def test_objects_that_nobody_reads_wait_in_the_sandbox(roomy: SandboxHandle) -> None:
    cell = roomy.stream_cell("for number in range(10): display(str(number) * 1_000_000)")
    first = await anext(cell)
    await asyncio.sleep(1)
    held = sum(len(payload) for call in roomy.channel._calls.values() for _, payload in call._frames)
    assert held <= 2 * wire.WINDOW + wire.CHUNK
    shown = [first, *[event async for event in cell]]
    assert len(shown) == 11


# Replies that no correct kernel sends.
FORGED = [
    "forge(b'\\1')",
    "forge(shown(1, 1))",
    "forge(shown(1, 0) + b'x')",
    "forge(shown(2, 0))",
    "forge(shown(1, 1, (b'text/plain', 5)) + b'x')",
    "forge(shown(1, 1, (b'text/plain', 5 << 20)) + bytes(5 << 20))",
    "forge(shown(1, 2, (b'a', 1), (b'a', 1)) + b'xy')",
    "forge(shown(1, 1, (b'', 1)) + b'x')",
    "forge(shown(1, 1, (b'\\xff', 1)) + b'x')",
    "forge(shown(1, 33, *[(b'a%d' % n, 0) for n in range(33)]))",
    "forge(b'\\0\\xff\\xff\\xff')",
    'forge(b\'{"end":{"count":1,"error":{"name":[[]],"message":"","traceback":"","limit":null}},"pid":2}\')',
    'forge(b\'{"end":{"checkpoints":[1]},"pid":2}\')',
    'forge(b\'{"end":{"error":"\' + b\'x\' * 2_000 + b\'"},"pid":2}\')',
    'forge(b\'{"end":{"dropped":"x"},"pid":2}\')',
    'forge(b\'{"end":{"error":"x"},"pid":2}\')',
    'forge(b\'{"end":{"checkpoints":["x"]},"pid":2}\')',
    'forge(b\'{"end":{"other":1},"pid":2}\')',
    'forge(b\'{"end":{"count":1e400},"pid":2}\')',
]


async def test_a_forged_message_ends_the_kernel_and_not_the_sandbox(box: SandboxHandle) -> None:
    for forged in FORGED:
        failure = (await box.run_cell(f"{FORGE}\n{forged}\nimport time; time.sleep(10)")).end.failure
        assert isinstance(failure, errors.KernelDied), forged
    assert (await box.run_cell("1")).ok


async def test_many_small_objects_meet_the_output_limit(box: SandboxHandle) -> None:
    code = f"{FORGE}\nforge(shown(1, 0), 400_000)"
    result = await box.run_cell(code)
    assert result.end.failure is not None
    assert len(result.rich) <= box.spec.limits.output_bytes // wire.OBJECT
    await box.restart_kernel()
    assert (await box.run_cell("1")).ok
