"""Ports of sandboxes over HTTP and WebSocket: /ports/{token}/… goes to the server inside of that token.

What answers is hostile. What may go in and come out is listed, all of it is bounded and typed, and a page of
it runs in an origin of its own.
"""
