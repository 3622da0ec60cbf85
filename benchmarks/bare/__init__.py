"""The least that brings an agent's tokens from one process through another to HTTP: a yardstick.

The same libraries in the same shape as Portico's core and SSE gateway: one stream between them that carries
frames of many replies, each written to SQLite before it goes out. There are no runs, no readers that come
back, no limits, no sessions and no credit: who asks gets tokens. What it holds tells how fast a machine is.
"""
