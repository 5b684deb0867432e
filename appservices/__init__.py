"""Application services that come with the server. They speak plain HTTP with any homeserver and import none of it."""
