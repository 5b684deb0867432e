"""The OAuth 2.0 API without HTTP: who may ask, what is granted, and what that becomes.

    errors.py         what clients are told, in OAuth's own words
    redirect_uris.py  which addresses a client may have people sent back to
    clients.py        clients: their registration and how they prove who they are
    scope.py          what is asked for: the whole API, as one device
    authorization.py  the authorization code grant, from the browser's request to the code
    device_grants.py  the device authorization grant: a code on one device, a browser on another
    tokens.py         codes and refresh tokens to sessions; revocation; introspection
    signed_tokens.py  access tokens that say something by themselves (JWT), and the key that signs them
    metadata.py       what clients find out about all this

A session that comes of it is an ordinary one: a device, an access token, a refresh token (see accounts/sessions.py).
The pages that people see are in homeserver.web; they call `authorization` and `device_grants`.

# spec: client-server-api/#oauth-20-api
"""
