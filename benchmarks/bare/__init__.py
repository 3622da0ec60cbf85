"""A yardstick: the minimal relay of an agent's tokens from one process through another to HTTP.

It uses the same libraries as Portico's core and SSE gateway in the same arrangement: one stream between
the processes carries frames of many replies, and each frame is written to SQLite before it is sent. It has
no runs, no resuming readers, no limits, no sessions and no credit. Its capacity shows the speed of a
machine.
"""
