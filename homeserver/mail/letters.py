"""Every mail that this server can write.

A letter is a subject, paragraphs, and at most one link; all have the same form (templates/). Placeholders are those of
`translations`, `%(name)s`; the values come with the queued mail, besides `server_name`. The value `path` says where the
link leads, below `public_baseurl`.

`text_code` is a text message: its one paragraph is sent, and no subject.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from homeserver.translations import mark, translator


@dataclass(frozen=True, slots=True)
class Letter:
    """`link` is the text of the link to `path`; None for a letter without one. `after` follows it."""

    subject: str
    paragraphs: tuple[str, ...]
    link: str | None = None
    after: tuple[str, ...] = ()


_NOT_YOU = mark("If it was not you, somebody may know your password: set another one now, and sign out that device.")
_IGNORE = mark("If you did not ask for this, ignore this mail: nothing happens without that link.")
_ONCE = mark("The link is good for one hour and can be used once.")

LETTERS: Mapping[str, Letter] = {
    "confirm_address": Letter(
        mark("Confirm your e-mail address"),
        (mark("Somebody, most likely you, has given this address for an account at %(server_name)s."),),
        mark("Confirm this address"),
        (_ONCE, _IGNORE),
    ),
    "confirm_password_reset": Letter(
        mark("Set another password"),
        (
            mark("Somebody, most likely you, wants to set another password for %(user_id)s."),
            mark("Confirm only if you have just asked for that in your app; then go on there."),
        ),
        mark("Confirm that it is me"),
        (_ONCE, _IGNORE),
    ),
    "recovery": Letter(
        mark("Set another password"),
        (mark("Somebody, most likely you, wants to set another password for %(user_id)s."),),
        mark("Set another password"),
        (_ONCE, _IGNORE),
    ),
    "address_in_use": Letter(
        mark("You have an account already"),
        (
            mark("Somebody, most likely you, has given this address for an account at %(server_name)s."),
            mark("It belongs to an account there already: %(user_id)s. Nothing has changed."),
            mark("If you have forgotten the password, you can set another one."),
        ),
        mark("Go to my account"),
    ),
    "text_code": Letter(
        "", (mark("%(code)s is your code for %(server_name)s. Nobody who asks you for it is from there."),)
    ),
    "new_device": Letter(
        mark("New device signed in"),
        (
            mark("A new device has signed in to %(user_id)s."),
            mark("Device: %(device)s"),
            mark("Time: %(time)s"),
            mark("Network address: %(address)s"),
        ),
        mark("Look at my devices"),
        (_NOT_YOU,),
    ),
    "password_changed": Letter(
        mark("Your password was changed"),
        (mark("The password of %(user_id)s was changed."), mark("Time: %(time)s")),
        mark("Go to my account"),
        (mark("If it was not you, set another one with the link “Forgot your password?” on the sign-in page."),),
    ),
    "address_added": Letter(
        mark("An address was added to your account"),
        (
            mark("%(contact)s was added to %(user_id)s. Whoever reads what is sent there can recover the account."),
            mark("Time: %(time)s"),
        ),
        mark("Go to my account"),
        (_NOT_YOU,),
    ),
    "address_removed": Letter(
        mark("An address was removed from your account"),
        (mark("%(contact)s was removed from %(user_id)s."), mark("Time: %(time)s")),
        mark("Go to my account"),
        (_NOT_YOU,),
    ),
    "second_factor_off": Letter(
        mark("Your second factor was switched off"),
        (
            mark("%(user_id)s can be signed in to without a code of your authenticator app now."),
            mark("Time: %(time)s"),
        ),
        mark("Go to my account"),
        (_NOT_YOU,),
    ),
    "second_factor_on": Letter(
        mark("Your second factor was switched on"),
        (
            mark("From now on signing in to %(user_id)s needs a code of your authenticator app."),
            mark("Time: %(time)s"),
        ),
        mark("Go to my account"),
        (_NOT_YOU,),
    ),
    "backup_code_used": Letter(
        mark("A backup code was used"),
        (
            mark("A backup code of %(user_id)s was used. Codes left: %(left)s"),
            mark("Time: %(time)s"),
        ),
        mark("Go to my account"),
        (_NOT_YOU,),
    ),
}


@dataclass(frozen=True, slots=True)
class WrittenLetter:
    """A letter in one language with everything filled in. Plain text: whoever shows it escapes it."""

    language: str
    subject: str
    paragraphs: tuple[str, ...]
    link_text: str | None
    link: str | None
    after: tuple[str, ...]


def write_letter(template: str, language: str, values: Mapping[str, str], baseurl: str) -> WrittenLetter:
    """The letter `template` for a reader of `language`, whose link begins with `baseurl`.

    :raises KeyError: if there is no such letter, or a value is missing
    """
    letter = LETTERS[template]
    translate = translator(language)

    def written(text: str) -> str:
        return translate(text) % values

    return WrittenLetter(
        language=language,
        subject=written(letter.subject) if letter.subject else "",
        paragraphs=tuple(written(one) for one in letter.paragraphs),
        link_text=written(letter.link) if letter.link is not None else None,
        link=baseurl + values["path"] if letter.link is not None else None,
        after=tuple(written(one) for one in letter.after),
    )
