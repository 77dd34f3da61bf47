"""Calls to an appliance.

::

    Client ── a method for each route ── calls
       │                                  │ method, path, body, request id
       └── Transport ─────────────────────┘
           HTTP/1.1 over TLS 1.3 with our certificate, connections shared by all threads,
           repeated under the same request id where that can help

The contract is ``protocol.cddl``. Objects are what CBOR says they are: maps with text keys, ids as
16 bytes, see ``objects``.
"""

from ashlar_cinder.client.calls import Clear, Client
from ashlar_cinder.client.errors import AshlarError, Problem, ProtocolError, UnreachableError
from ashlar_cinder.client.streams import Content
from ashlar_cinder.client.transport import Endpoint, Identity, Patience

__all__ = [
    "AshlarError",
    "Clear",
    "Client",
    "Content",
    "Endpoint",
    "Identity",
    "Patience",
    "Problem",
    "ProtocolError",
    "UnreachableError",
]
