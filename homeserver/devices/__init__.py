"""Actions on devices: their keys, who is told that they changed, and the messages that they send each other.

Each is one transaction. Other servers are reached through `homeserver.remote` or by EDUs in a queue, never directly.
"""
