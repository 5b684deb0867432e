"""Signing in with an account elsewhere.

    provider.py  what a provider is, whatever its protocol: it sends people away and says who has come back
    oidc.py      OpenID Connect, for Google, Microsoft, Apple and every provider that conforms to its discovery
    id_tokens.py the signed statements of OpenID Connect, checked
    logins.py    one sign-in from leaving to coming back, bound to one browser, used once
    linking.py   which account here somebody there is let into
    logout.py    the end of sessions that the provider reports

Who somebody is, is said by the provider and the subject there alone. E-mail addresses and names can change hands, so
they open an account only where the operator has said so, never one of an administrator, and an address only if both
sides have checked it.

SAML or another protocol is one more file beside oidc.py with what `Provider` asks for.
"""
