"""The database schema, as data: numbered SQL files, applied in order and only forward by homeserver.storage.migrate.

A file that has been released is never edited: a database that ran it would differ from one that runs it now. A change
is a new file. It is a package of its own so that the files come along when Talk pAI is installed, and so that whoever
looks for the tables finds them without opening any Python.
"""
