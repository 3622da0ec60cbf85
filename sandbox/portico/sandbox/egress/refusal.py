"""The proxy's response to a refused request."""

from typing import Final

_MAX_TEXT: Final = 1_000  # characters


class RequestRefused(Exception):
    """The proxy refuses a request: an HTTP status, the reason, and what to do."""

    def __init__(self, status: int, reason: str, advice: str = "") -> None:
        super().__init__(reason)
        self.status, self.reason, self.advice = status, reason, advice

    def response(self) -> bytes:
        """Returns a complete HTTP response. The status line has the reason too, because many clients show no
        more of a proxy's response."""
        reason = _printable(self.reason)
        body = f"{reason}\n{_printable(self.advice)}\n" if self.advice else f"{reason}\n"
        return (
            f"HTTP/1.1 {self.status} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n{body}"
        ).encode("ascii")


def _printable(text: str) -> str:
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text[:_MAX_TEXT])
