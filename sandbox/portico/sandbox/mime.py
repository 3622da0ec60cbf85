"""Rich events of a kernel, decoded: what hostile code may have written, as plain bytes by MIME type."""

import base64
import binascii
import json
from typing import Any

from portico.sandbox.events import Rich
from portico.sandbox.inside import wire


def rich(payload: bytes) -> Rich:
    message = wire.parse_json(payload)
    forms = message.get("data")
    data = {
        str(kind): _content(str(kind), form)
        for kind, form in (forms if isinstance(forms, dict) else {}).items()
    }
    return Rich(data, message.get("type") == "result")


def _content(kind: str, form: Any) -> bytes:
    if not isinstance(form, str):
        return json.dumps(form).encode()
    if (
        kind.startswith(("image/", "audio/", "video/", "application/pdf", "application/octet"))
        and "xml" not in kind
    ):
        try:
            return base64.b64decode(form)
        except (binascii.Error, ValueError):
            pass  # the code inside gave text where bytes are usual
    return form.encode(errors="replace")
