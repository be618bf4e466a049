"""A server: the voice and amplifier models over HTTP and WebSocket, and a page to try them on.

- ``worker``: the one thread that samples, for all requests together; ``output``: from it to a
  client, no faster than the client takes it;
- ``settings``, ``bodies``, ``live``: what a request asks for and brings;
- ``vocode``, ``stream``, ``process``, ``page``: the endpoints; ``app`` joins them, ``run`` serves.

Starlette, uvicorn and prometheus-client come with the extra ``serve``.
"""
