"""HTTP/1.1 as h11 reads it, with heads and pieces of bodies that are bounded however they come."""

from __future__ import annotations

import h11

# A request's line and headers. Requests have 5 to 15 headers of some hundred bytes together.
MAX_HEADER_BYTES = 32 * 1024
MAX_HEADERS = 100
# A body in pieces smaller than this on average costs more to take apart than to read (a megabyte of one-byte chunks
# .7 s of CPU); the first FREE_PIECES may be of any size.
LEAST_PIECE, FREE_PIECES = 64, 4096
HEAD_TOO_LARGE = 431


class Bounded(h11.Connection):
    """h11's, which bounds a head that is not whole yet; this one bounds those that came whole too, and tiny pieces.

    method: of the request in hand; refused, why: status and reason of the last error
    """

    method = b""
    refused = 0
    why = ""
    _pieces = 0
    _bytes = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                self.method, self._pieces, self._bytes = event.method, 0, 0
                _check_head(event)
            elif isinstance(event, h11.Data):
                self._check_piece(event)
        except h11.RemoteProtocolError as error:
            self.refused = error.error_status_hint
            self.why = str(error) if isinstance(error, Refused) else ""
            raise
        return event

    def start_next_cycle(self) -> None:
        super().start_next_cycle()
        self.method = b""

    def _check_piece(self, data: h11.Data) -> None:
        self._pieces += bool(data.chunk_start)  # how the network cuts a body is nobody's fault
        self._bytes += len(data.data)
        if self._pieces > FREE_PIECES + self._bytes // LEAST_PIECE:
            raise Refused("the body came in too small pieces; send it in larger ones")


class Refused(h11.RemoteProtocolError):
    """What HTTP allows and this server does not."""


def _check_head(request: h11.Request) -> None:
    headers = list(request.headers)
    size = len(request.target) + sum(len(name) + len(value) for name, value in headers)
    if len(headers) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        raise Refused("the head is too large", error_status_hint=HEAD_TOO_LARGE)
    if request.method in (b"GET", b"HEAD") and any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0")) for name, value in headers
    ):
        raise Refused("a GET has no body here")
