"""Push: from the notification of an event to the device that rings.

    sender.py        who has to be told of what, and the tasks that tell them
    notification.py  what a device is told of an event, and how many messages are unread
    gateway.py       one request to a push gateway
    web_push.py      one message to a Web Push service

Push rules are evaluated when an event is written (`homeserver/rooms/notifications.py`), and what they say is kept. The
sender reads on from there, as other senders do: rows, a position, and back-off in the database.
"""
