"""Rich display: converts an object to contents by MIME type, by the methods that Jupyter defines."""

import base64
import json
import sys
from collections.abc import Mapping
from typing import Any, Final

from . import wire

_BINARY: Final = ("image/", "audio/", "video/", "application/pdf", "application/octet")
_encode: Final = json.JSONEncoder(default=repr).encode
_METHODS: Final = {
    "text/html": "_repr_html_",
    "text/markdown": "_repr_markdown_",
    "text/latex": "_repr_latex_",
    "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_",
    "image/jpeg": "_repr_jpeg_",
    "application/json": "_repr_json_",
}
# These types have no other format.
_SIMPLE: Final = frozenset({bool, bytes, complex, dict, float, int, list, set, str, tuple, type(None)})


def bundle(value: Any) -> dict[str, Any]:
    """Returns every format that an object offers, and always text/plain. A format whose method fails is
    omitted.
    """
    data: dict[str, Any] = {}
    if type(value) not in _SIMPLE and not isinstance(value, type):
        offered = _call(value, "_repr_mimebundle_")
        if isinstance(offered, tuple):
            offered = offered[0]
        if isinstance(offered, dict):
            data.update((str(kind), form) for kind, form in offered.items())
        for kind, name in _METHODS.items():
            form = None if kind in data else _call(value, name)
            if form is not None:
                data[kind] = form[0] if isinstance(form, tuple) else form
        if "image/png" not in data and _is_figure(value):
            data["image/png"] = png(value)
    if "text/plain" not in data:
        data["text/plain"] = repr(value)
    return data


def _call(value: Any, name: str) -> Any:
    method = getattr(value, name, None)
    try:
        return method() if callable(method) else None
    except Exception:
        return None


def contents(data: Mapping[str, Any]) -> tuple[dict[str, bytes], list[str]]:
    """Encodes a bundle. Returns the contents and the types of those that are too large. JSON is encoded here
    once, because the owner does not decode it. What cannot be encoded, or has an invalid type, is omitted.
    """
    forms: dict[str, bytes] = {}
    dropped: list[str] = []
    room = wire.OBJECT_BYTES
    for kind, form in data.items():
        if not wire.is_mime_type(kind):
            continue
        try:
            content = _content(kind, form)
        except Exception:  # noqa: S112  JSON of a recursive or too deep object
            continue
        if len(content) > min(wire.FORM_BYTES, room) or len(forms) == wire.FORMS:
            dropped.append(kind)
            continue
        forms[kind] = content
        room -= len(content)
    return forms, dropped


def _content(kind: str, form: Any) -> bytes:
    if isinstance(form, (bytes, bytearray)):
        return bytes(form)
    if not isinstance(form, str):
        return _encode(form).encode()
    if kind.startswith(_BINARY) and "xml" not in kind:
        try:
            return base64.b64decode("".join(form.split()), validate=True)
        except ValueError:
            pass  # text, where bytes are usual
    return form.encode(errors="replace")


def _is_figure(value: Any) -> bool:
    module = sys.modules.get("matplotlib.figure")
    return module is not None and isinstance(value, module.Figure)


def png(figure: Any) -> bytes:
    import io

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()


def open_figures() -> list[dict[str, Any]]:
    """Draws and closes the figures that pyplot holds; returns them as bundles."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None or not hasattr(pyplot, "get_fignums"):
        return []
    figures = [pyplot.figure(number) for number in pyplot.get_fignums()]
    bundles = [{"image/png": png(figure), "text/plain": repr(figure)} for figure in figures]
    pyplot.close("all")
    return bundles
