"""Room for the files that a server's connections are."""

from __future__ import annotations

import logging
import resource

log = logging.getLogger(__name__)
# Files that the process opens beside its clients' connections: shards, models, libraries, the worker's socket.
OTHER_FILES = 256


def make_room(connections: int) -> int:
    """Raise the soft limit of open files, often 1,024, to what so many connections need; how many there is room for.

    Without room newcomers are reset, or wait for a connection of others to end.
    """
    wanted = connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    reachable = wanted if hard == resource.RLIM_INFINITY else max(soft, min(wanted, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
    if reachable < wanted:
        told = {"files": reachable, "connections": max(1, reachable - OTHER_FILES)}
        log.warning("fewer files may be open than the connections allowed need", extra=told)
    return max(1, min(connections, reachable - OTHER_FILES))
