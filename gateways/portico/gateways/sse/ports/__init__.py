"""Proxy to HTTP servers in sandboxes: /ports/{token}/… forwards to the port that the token was issued for.

The server in the sandbox is untrusted. Allow-lists decide which header fields pass in each direction, answers
are checked and bounded, and browsers run its pages in an opaque origin.
"""
