"""The API for administrators of this server, under the paths and in the shapes of Synapse's, so that its tools work.

A file for each subject; `routes` is the whole as one table. Every route needs an administrator's token. Whatever
changes something writes its row of the audit log in the same transaction; what takes long is a job (accounts.jobs),
whose status can be asked for.
"""
