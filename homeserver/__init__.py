"""The homeserver: protocol, storage, rooms, sync, accounts and what speaks HTTP. `main` puts it together."""
