"""What runs behind the wall: the zygote, the agent that is process 1 of a sandbox, and the Python kernel.

Only the standard library is imported here, and nothing else of this project: the code is started by path,
with an empty environment, and also copied into images. `wire` alone is shared with the other side.
"""
