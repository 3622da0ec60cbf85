"""A scripted stand-in for a hosted model, over real HTTP: says what it is told, keeps what it was asked."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ScriptedModel:
    """POST /v1/chat/completions answers every request with the same words."""

    def __init__(self, words: list[str]) -> None:
        self.requests: list[dict[str, Any]] = []
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                model.requests.append(json.loads(self.rfile.read(length)))
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                for chunk in model.chunks(words):
                    self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                self.wfile.write(b"data: [DONE]\n\n")

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def chunks(self, words: list[str]) -> list[dict[str, Any]]:
        """The words as chat.completion.chunk objects, and the usage at the end."""
        about = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": "scripted"}
        said = [
            {**about, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
            for word in words
        ]
        usage = {"prompt_tokens": 11, "completion_tokens": len(words), "total_tokens": 11 + len(words)}
        return [*said, {**about, "choices": [], "usage": usage}]

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
