"""The blocking client: lists the methods of each service once."""

from collections.abc import Mapping
from contextlib import suppress

import grpc

from portico.client.client import Client
from portico.client.errors import Cancelled
from portico.client.sandboxes.sandboxes import Sandboxes
from portico.client.services.agents import Agents
from portico.client.services.identity import Identity
from portico.client.services.memories import Memories
from portico.client.services.pushes import Pushes
from portico.client.services.runs import Runs
from portico.client.services.sessions import Sessions
from portico.client.services.states import States
from portico.client.sync.blocking import (
    Blocking,
    ClientLoopThread,
    blocking,
    blocking_iterator,
    blocking_listing,
    blocking_stream,
)
from portico.client.sync.blocking_sandboxes import (
    blocking_cells,
    blocking_port,
    blocking_reader,
    blocking_terminal,
)


class SyncAgents(Blocking[Agents]):
    """As Agents."""

    list = blocking_listing(Agents.list)
    get = blocking(Agents.get)
    call_endpoint = blocking(Agents.call_endpoint)
    stream_endpoint = blocking_iterator(Agents.stream_endpoint)


class SyncIdentity(Blocking[Identity]):
    """As Identity."""

    caller = blocking(Identity.caller)
    create_key = blocking(Identity.create_key)
    list_keys = blocking_listing(Identity.list_keys)
    revoke_key = blocking(Identity.revoke_key)
    forget_user = blocking(Identity.forget_user)


class SyncMemories(Blocking[Memories]):
    """As Memories."""

    add = blocking(Memories.add)
    get = blocking(Memories.get)
    update = blocking(Memories.update)
    search = blocking(Memories.search)
    list = blocking_listing(Memories.list)
    delete = blocking(Memories.delete)


class SyncPushes(Blocking[Pushes]):
    """As Pushes."""

    set = blocking(Pushes.set)
    get = blocking(Pushes.get)
    list = blocking_listing(Pushes.list)
    delete = blocking(Pushes.delete)
    claim = blocking_iterator(Pushes.claim)
    ack = blocking(Pushes.ack)


class SyncRuns(Blocking[Runs]):
    """As Runs."""

    query = blocking_stream(Runs.query)
    watch = blocking_stream(Runs.watch)
    start = blocking(Runs.start)
    get = blocking(Runs.get)
    list = blocking_listing(Runs.list)
    cancel = blocking(Runs.cancel)
    interrupt = blocking(Runs.interrupt)
    interrupt_session = blocking(Runs.interrupt_session)
    resume = blocking(Runs.resume)
    steer = blocking(Runs.steer)
    delete = blocking(Runs.delete)


class SyncSandboxes(Blocking[Sandboxes]):
    """As Sandboxes."""

    create = blocking(Sandboxes.create)
    get = blocking(Sandboxes.get)
    list = blocking_listing(Sandboxes.list)
    touch = blocking(Sandboxes.touch)
    delete = blocking(Sandboxes.delete)
    pause = blocking(Sandboxes.pause)
    resume = blocking(Sandboxes.resume)
    metrics = blocking(Sandboxes.metrics)
    cells = blocking_cells(Sandboxes.cells)
    run_cell = blocking_iterator(Sandboxes.run_cell)
    run_command = blocking_iterator(Sandboxes.run_command)
    start_process = blocking(Sandboxes.start_process)
    list_processes = blocking(Sandboxes.list_processes)
    write_process = blocking(Sandboxes.write_process)
    signal_process = blocking(Sandboxes.signal_process)
    watch_process = blocking_iterator(Sandboxes.watch_process)
    open_terminal = blocking_terminal(Sandboxes.open_terminal)
    list_tools = blocking(Sandboxes.list_tools)
    call_tool = blocking(Sandboxes.call_tool)
    open_file = blocking_reader(Sandboxes.open_file)
    read_file = blocking_iterator(Sandboxes.read_file)
    write_file = blocking(Sandboxes.write_file)
    stat_file = blocking(Sandboxes.stat_file)
    list_directory = blocking(Sandboxes.list_directory)
    list_entries = blocking_listing(Sandboxes.list_entries)
    make_directory = blocking(Sandboxes.make_directory)
    move_file = blocking(Sandboxes.move_file)
    remove_file = blocking(Sandboxes.remove_file)
    search_files = blocking(Sandboxes.search_files)
    edit_file = blocking(Sandboxes.edit_file)
    watch_files = blocking_iterator(Sandboxes.watch_files)
    connect_port = blocking_port(Sandboxes.connect_port)
    create_port_access = blocking(Sandboxes.create_port_access)
    create_checkpoint = blocking(Sandboxes.create_checkpoint)
    roll_back = blocking(Sandboxes.roll_back)
    create_snapshot = blocking(Sandboxes.create_snapshot)
    list_snapshots = blocking_listing(Sandboxes.list_snapshots)
    delete_snapshot = blocking(Sandboxes.delete_snapshot)
    fork = blocking(Sandboxes.fork)


class SyncSessions(Blocking[Sessions]):
    """As Sessions."""

    create = blocking(Sessions.create)
    get = blocking(Sessions.get)
    update = blocking(Sessions.update)
    list = blocking_listing(Sessions.list)
    delete = blocking(Sessions.delete)
    append_messages = blocking(Sessions.append_messages)
    list_messages = blocking_listing(Sessions.list_messages)
    get_message = blocking(Sessions.get_message)
    delete_message = blocking(Sessions.delete_message)
    search = blocking(Sessions.search)


class SyncStates(Blocking[States]):
    """As States."""

    save = blocking(States.save)
    get = blocking(States.get)
    list = blocking_listing(States.list)
    delete = blocking(States.delete)


class SyncClient:
    """Client for use from any thread that runs no event loop; its methods block."""

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        credential: str | None = None,
        metadata: Mapping[str, str | bytes] | None = None,
        timeout: float = 30.0,
        tls: grpc.ChannelCredentials | None = None,
    ) -> None:
        client = Client(target, credential=credential, metadata=metadata, timeout=timeout, tls=tls)
        self._use(ClientLoopThread(), client)

    def _use(self, thread: ClientLoopThread, client: Client) -> None:
        self._thread = thread
        self._client = client
        self.agents = SyncAgents(thread, client.agents)
        self.identity = SyncIdentity(thread, client.identity)
        self.memories = SyncMemories(thread, client.memories)
        self.pushes = SyncPushes(thread, client.pushes)
        self.runs = SyncRuns(thread, client.runs)
        self.sandboxes = SyncSandboxes(thread, client.sandboxes)
        self.sessions = SyncSessions(thread, client.sessions)
        self.states = SyncStates(thread, client.states)

    def with_options(
        self,
        *,
        credential: str | None = None,
        metadata: Mapping[str, str | bytes] | None = None,
        timeout: float | None = None,
    ) -> "SyncClient":
        """As Client.with_options."""
        varied = SyncClient.__new__(type(self))
        options = self._client.with_options(credential=credential, metadata=metadata, timeout=timeout)
        varied._use(self._thread, options)
        return varied

    def healthy(self) -> bool:
        """As Client.healthy."""
        return self._thread.run(self._client.healthy())

    def close(self) -> None:
        """Closes the connection as Client.close does. Does nothing when repeated."""
        with suppress(Cancelled):
            self._thread.run(self._client.close())
        self._thread.close()

    def __enter__(self) -> "SyncClient":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
