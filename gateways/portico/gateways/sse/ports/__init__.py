"""The proxy to HTTP servers in sandboxes: /ports/{token}/… goes to the port that the token was made for.

The server is treated as hostile. Lists say which header fields pass in each direction, answers are checked
and bounded, and browsers run its pages in an opaque origin.
"""
