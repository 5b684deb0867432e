"""Which smaller form of an image a request asks for, be it a client's or another server's."""

from __future__ import annotations

from homeserver.http.requests import Query
from homeserver.media.thumbnails import Wanted, wanted
from homeserver.protocol.errors import MissingParam


def size_wanted(query: Query) -> Wanted | None:
    """The size that is made for what is asked; None if only the original is as large.

    :raises MissingParam, BadRequest: if it asks for no size
    # spec: client-server-api/#thumbnails
    """
    width, height = query.integer("width"), query.integer("height")
    if width is None or height is None:
        raise MissingParam("width and height are missing")
    return wanted(
        width,
        height,
        query.choice("method", ("scale", "crop"), default="scale"),
        animated=query.boolean("animated"),
    )
