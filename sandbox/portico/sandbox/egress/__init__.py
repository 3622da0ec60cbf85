"""The egress proxy: gives a sandbox access to its allowed hosts, by plain HTTP with absolute URLs, and by TLS
and raw TCP with CONNECT.

It runs on the owner's side, because the sandbox's network namespace reaches nothing. `rules` decides which
hosts and ports are allowed, `addresses` which addresses; `resolver` and `dialing` make the connection;
`http_requests` and `tls_hello` parse what code inside sends; `tunnel` carries bytes; `proxy` combines them.
"""
