"""The server-server API: requests to other servers and requests from them.

We to them: transport, discovery, signed_requests, key_ring, client, outbox. Them to us: the other files, a file a group
of endpoints, put together in `routes`.
"""
