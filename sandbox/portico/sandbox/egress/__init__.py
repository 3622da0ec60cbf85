"""The proxy through which a sandbox reaches the hosts that it may: plain HTTP by absolute URL, TLS and raw
TCP by CONNECT.

It runs on the owner's side, because a sandbox's own network reaches nothing. `rules` says which hosts and
ports are meant, `addresses` to which addresses a connection may go, `resolver` and `dialing` make it,
`http1` and `hello` parse what code inside sends, `tunnel` carries bytes, and `proxy` joins them.
"""
