"""A server inside a sandbox that violates the rules of HTTP and WebSocket that its path names.

It uses only the standard library.
"""

import base64
import hashlib
import json
import socket
import struct
import threading
import time

OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "/acts": OK
    + b"X-Accel-Redirect: /internal/secret\r\nX-Sendfile: /etc/passwd\r\nNEL: {}\r\nReport-To: {}\r\n"
    b'Reporting-Endpoints: d="https://evil.example/r"\r\nWWW-Authenticate: Basic realm="Portico"\r\n'
    b'Set-Cookie: a=b\r\nClear-Site-Data: "*"\r\nAccess-Control-Allow-Origin: *\r\nRefresh: 0; url=//x\r\n'
    b"Access-Control-Allow-Credentials: true\r\nCache-Control: public, max-age=9\r\nServer: x\r\nAge: 1\r\n"
    b"Content-Security-Policy: default-src *\r\nX-Frame-Options: DENY\r\nLink: </x>; rel=preload\r\n"
    b"Service-Worker-Allowed: /\r\nAlt-Svc: h3=:443\r\nStrict-Transport-Security: max-age=1\r\nVia: 1.1 x\r\n"
    b'Trailer: X\r\nETag: "1"\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok',
    "/two-framings": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "/two-lengths": OK + b"Content-Length: 2\r\nContent-Length: 5\r\n\r\nhello",
    "/two-types": OK + b"Content-Type: a/b\r\nContent-Type: c/d\r\nContent-Length: 0\r\n\r\n",
    "/length-of-words": OK + b"Content-Length: +2\r\n\r\nok",
    "/length-beyond": OK + b"Content-Length: 99999999999999999999\r\n\r\nok",
    "/old-chunks": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "/gzip-framing": OK + b"Transfer-Encoding: gzip\r\n\r\nxx",
    "/switches": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "/status": b"HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n",
    "/status-of-proxies": b"HTTP/1.1 407 x\r\nContent-Length: 0\r\n\r\n",
    "/garbage": b"\x00\xff\r\n\r\n",
    "/nothing": b"",
    "/half-a-head": OK + b"Content-",
    "/carriage-return": OK + b"ETag: a\rSet-Cookie: z=1\r\nContent-Length: 0\r\n\r\n",
    "/control": OK + b'ETag: "\x01\x1b]0;x\x07"\r\nContent-Length: 0\r\n\r\n',
    "/large-head": OK + b"X: " + b"x" * 100_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "/many-interim": b"HTTP/1.1 100 Continue\r\n\r\n" * 100 + OK + b"Content-Length: 2\r\n\r\nok",
    "/other-place": b"HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n\r\n",
    "/other-place-short": b"HTTP/1.1 302 Found\r\nLocation: //evil.example/\r\nContent-Length: 0\r\n\r\n",
    # Answers that the proxy must accept.
    "/interim": b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + OK + b"Content-Length: 2\r\n\r\nok",
    "/no-content": b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
    "/not-modified": b'HTTP/1.1 304 x\r\nETag: "1"\r\nContent-Length: 5\r\n\r\nhello',
    "/too-much": OK + b"Content-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad",
    "/old": b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end",
    "/chunks": OK
    + b"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n1\r\n!\r\n0\r\nX-Accel-Redirect: /x\r\n\r\n",
    "/climbs": b"HTTP/1.1 302 Found\r\nLocation: ../..//%2e%2E/a/../b?c=d#e\r\nContent-Length: 0\r\n\r\n",
    "/backslash": b"HTTP/1.1 302 Found\r\nLocation: /\\evil.example/\r\nContent-Length: 0\r\n\r\n",
    "/own-name": b"HTTP/1.1 302 Found\r\nLocation: http://localhost:80/there?a\r\nContent-Length: 0\r\n\r\n",
    # Answers that begin correctly.
    "/short": OK + b"Content-Length: 100\r\n\r\nhello",
    "/short-chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "/bad-chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    "/long-chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloxx\r\n0\r\n\r\n",
}


def serve(connection: socket.socket) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(65536)
        if not data:
            return
        head += data
    path = head.split(b" ")[1].decode("latin-1").partition("?")[0]
    if path in ANSWERS:
        connection.sendall(ANSWERS[path])
    elif path == "/hangs":
        time.sleep(600)
    elif path == "/drips":
        for byte in OK + b"X: " + b"x" * 600:
            connection.sendall(bytes([byte]))
            time.sleep(0.2)
    elif path == "/falls-silent":
        connection.sendall(OK + b"Content-Length: 100\r\n\r\nhello")
        time.sleep(600)
    elif path == "/resets":
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")
        time.sleep(0.3)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif path == "/events":
        connection.sendall(OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            connection.sendall(b"9\r\ndata: %d\n\n\r\n" % number)
            time.sleep(0.5)
        connection.sendall(b"0\r\n\r\n")
    elif path == "/endless":
        connection.sendall(OK + b"\r\n")
        sent = 0
        try:
            while True:
                connection.sendall(b"x" * 65536)
                sent += 65536
                with open("/workspace/sent", "w") as file:
                    file.write(str(sent))
        except OSError:
            with open("/workspace/sent", "w") as file:
                file.write(f"{sent} gone")
    elif path.startswith("/socket"):
        socket_of(connection, head, path)
    else:
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        body = head.partition(b"\r\n\r\n")[2]
        while len(body) < length:
            body += connection.recv(65536)
        lines = head.decode("latin-1").split("\r\n")
        told = json.dumps({"line": lines[0], "head": lines[1:-2], "body": len(body)}).encode()
        connection.sendall(
            OK + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(told) + told
        )


def frame(opcode: int, data: bytes = b"", fin: bool = True) -> bytes:
    size = len(data)
    if size < 126:
        length = bytes([size])
    elif size < 65536:
        length = b"\x7e" + struct.pack("!H", size)
    else:
        length = b"\x7f" + struct.pack("!Q", size)
    return bytes([opcode | (0x80 if fin else 0)]) + length + data


def exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def read_frame(connection: socket.socket) -> tuple[int, bytes]:
    first, second = exactly(connection, 2)
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack("!H", exactly(connection, 2))
    elif size == 127:
        (size,) = struct.unpack("!Q", exactly(connection, 8))
    mask = exactly(connection, 4)
    data = exactly(connection, size)
    whole = int.from_bytes(data, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return first & 0x0F, whole.to_bytes(size, "big")


def socket_of(connection: socket.socket, head: bytes, path: str) -> None:
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    fields = {name.lower(): value for name, value in fields.items()}
    key = fields[b"sec-websocket-key"] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key).digest())
    if path == "/socket/refuses":
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nSet-Cookie: a=b\r\n\r\nno")
        return
    if path == "/socket/wrong-key":
        accept = b"x" * 28
    if path == "/socket/hangs":
        time.sleep(600)
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    answer += b"Set-Cookie: a=b\r\n"
    answer += b"Sec-WebSocket-Accept: " + accept + b"\r\n"
    if path == "/socket/deflates":
        answer += b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
    if path == "/socket/other-protocol":
        answer += b"Sec-WebSocket-Protocol: other\r\n"
    elif b"sec-websocket-protocol" in fields:
        answer += (
            b"Sec-WebSocket-Protocol: " + fields[b"sec-websocket-protocol"].split(b",")[-1].strip() + b"\r\n"
        )
    connection.sendall(answer + b"\r\n")
    sends = {
        "/socket/masks": b"\x81\x85abcdhello",
        "/socket/reserved": b"\xf1\x00",
        "/socket/opcode": b"\x83\x00",
        "/socket/continues": frame(0, b"x"),
        "/socket/not-text": frame(1, b"\xff\xfe"),
        "/socket/long-ping": frame(9, b"x" * 200),
        "/socket/too-big": b"\x82\x7f" + struct.pack("!Q", 1 << 40),
        "/socket/too-big-in-pieces": frame(2, b"x" * 900_000, False) + frame(0, b"x" * 900_000, False) * 9,
        "/socket/bad-close": frame(8, struct.pack("!H", 1005)),
        "/socket/closes": frame(8, struct.pack("!H", 4321) + b"enough"),
        "/socket/deaf": b"",
        "/socket/breaks-off": frame(1, b"h", False),
        "/socket/tiny": frame(1, b"", False) + frame(0, b"", False) * 100_000 + frame(0, b"x"),
    }
    if path in sends:
        connection.sendall(sends[path])
        if path == "/socket/breaks-off":
            return
        time.sleep(600)
    told = json.dumps([line.decode("latin-1") for line in head.split(b"\r\n")[:-2]]).encode()
    connection.sendall(frame(1, told) + frame(9, b"are you there"))
    if path == "/socket/floods":
        pings = frame(9, b"x" * 100) * 600
        while True:
            connection.sendall(pings)
    while True:
        opcode, data = read_frame(connection)
        if opcode == 8:
            with open("/workspace/closed", "wb") as file:
                file.write(data)
            connection.sendall(frame(8, data))
            return
        if opcode == 10:
            connection.sendall(frame(1, b"pong " + data))
        elif opcode in (1, 2):
            connection.sendall(frame(opcode, data[:3], False) + frame(0, data[3:]))


def one(connection: socket.socket) -> None:
    try:
        serve(connection)
    except (OSError, EOFError):
        pass
    finally:
        connection.close()


if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", 8000), backlog=100)
    while True:
        accepted, _ = listening.accept()
        threading.Thread(target=one, args=(accepted,), daemon=True).start()
