"""Simplified sliding sync: a client looks at its rooms through windows, and is told what comes into them.

The proposal is MSC4186 (unstable name `org.matrix.simplified_msc3575`). A response is worked out from what the client
is known to have (`Position`, a value) and what the database holds at one position; what the response adds to the
former is kept beside it until the client shows that it has it. So a lost response is simply worked out again.

    request.py  required_state.py   what is asked for
    service.py                      one request: read, wait, read again, remember
    connections.py                  what each connection has been told, in memory and in the database
    room_list.py  filters.py        the user's rooms in order of activity, and the lists cut from them
    plan.py                         which rooms are to be told of, and what
    room_timeline.py  room_state.py  room_response.py    the parts of one room, read for many rooms at once
    extensions/                     what is not about rooms' events

What it costs depends on the rooms that are told; of the others no more is read than when they were last active.
"""
