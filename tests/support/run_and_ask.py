"""A program that starts `portico run`, sends its agent a request, stops it, and prints the result as JSON.

Its argument is JSON too. It runs in the tested namespace, and as the tested user, and imports nothing of
Portico; the output of `portico run` goes to its own standard error.
"""

import http.client
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

READY_SECONDS = 90


def main(asked: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-P", "-m", "portico.cli"]
    environment = {**os.environ, **asked["variables"]}
    for name in asked["unset"]:
        environment.pop(name, None)
    process = subprocess.Popen(
        [*asked["prefix"], *command, "run", *asked["options"]],
        stdin=subprocess.DEVNULL,
        stdout=2,
        env=environment,
        cwd=asked["folder"],
        preexec_fn=lambda: inherit(asked["inherited"]),
    )
    told: dict[str, Any] = {}
    try:
        until = time.monotonic() + READY_SECONDS
        while process.poll() is None and time.monotonic() < until and not ready(asked):
            time.sleep(0.05)
        if process.poll() is None:
            told["answer"] = answer(asked)
            chat = [*command, "chat", "--core", asked["core"], "-m", "hello"]
            said = subprocess.run(chat, stdout=subprocess.PIPE, env=environment, timeout=60, check=False)
            told["chat"] = said.stdout.decode().strip()
            number = process.pid
            if asked["prefix"]:
                (number,) = children(number)  # process 1 of the namespace
                told["reaped"] = reaped(number)
            os.kill(number, getattr(signal, asked["signal"]))
        told["status"] = process.wait(60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return told


def inherit(what: dict[str, Any]) -> None:
    for name in what.get("ignored", ()):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [getattr(signal, name) for name in what.get("blocked", ())])
    if "umask" in what:
        os.umask(what["umask"])
    if "open_files" in what:
        resource.setrlimit(resource.RLIMIT_NOFILE, what["open_files"])
    if "removed_folder" in what:
        os.mkdir(what["removed_folder"])
        os.chdir(what["removed_folder"])
        os.rmdir(what["removed_folder"])
    for number in what.get("closed", ()):
        os.close(number)


def ready(asked: dict[str, Any]) -> bool:
    connection = http.client.HTTPConnection(asked["host"], asked["port"], timeout=5)
    try:
        connection.request("GET", "/readiness")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def answer(asked: dict[str, Any]) -> str:
    connection = http.client.HTTPConnection(asked["host"], asked["port"], timeout=60)
    try:
        body = json.dumps({"input": asked["input"], "stream": False})
        connection.request("POST", "/process", body, {"content-type": "application/json"})
        said = connection.getresponse().read().decode()
        return str(json.loads(said)["output"][-1]["content"][0]["text"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def reaped(first: int) -> bool:
    """Returns whether process 1 reaps its orphans within the time limit."""
    until = time.monotonic() + READY_SECONDS
    while any(is_zombie(pid) for pid in children(first)):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
