"""Code that runs inside the isolation: the zygote, the supervisor (process 1 of a sandbox), and the Python
kernel.

It imports only the standard library and its own modules: it is started by path, with an empty environment,
and copied into images. The owner's side shares `wire`, constants and some helper functions with it.
"""
