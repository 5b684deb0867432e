"""The client-server API, a file a module of the specification, named as it names them.

Each file ends with its part of the table of routes; `routes` puts the parts together. Handlers read the request, call
an action or a read below, and shape the answer; what must be true of rooms is decided below, not here.
"""
