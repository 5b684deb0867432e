"""What a client missed: the responses of /sync, put together section by section.

Each section is a file with the same two functions: `complete` for a client that knows nothing, `incremental` for one
that knows everything up to a position. Both read the database as it was at one position, `View.until`, which becomes
the client's next token.

    tokens.py           what the tokens of /sync and /messages say
    view.py             who asks for what, up to where, and how the user stands to each room then
    service.py          one /sync request: parse, read, wait, read again
    response.py         the sections put together
    joined_rooms.py  left_rooms.py  invited_rooms.py  knocked_rooms.py  account_data.py     the sections
    room_section.py     timeline, state and the rest of one joined or left room, for many rooms at once
    room_state_delta.py which state events such a room's section has
    room_summary.py  ephemeral.py  notification_counts.py                                   parts of a joined room
    stripped_rooms.py   what invites and knocks show of their room
    sent_members.py     which member events a lazily loading client has
    history.py          pages of a room's history, single events and their context, for the reading endpoints
    client_events.py    stored events as a client is shown them, with `unsigned`; also for the reading endpoints

# spec: client-server-api/#syncing
"""
