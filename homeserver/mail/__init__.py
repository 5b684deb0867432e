"""E-mail: what is written, and how it gets out.

    letters.py    every mail that this server can write, as texts in the reader's language
    templates/    the form that they all have, as text and as HTML
    queue.py      `queue_mail`: a row in the transaction of whatever the mail tells of
    message.py    letter -> MIME message; addresses and subjects that can't smuggle in headers
    sender.py     the loop that sends the rows over SMTP

A mail is queued as the name of its letter and a few values, and written out only when it is sent, so that a row says
little to whoever reads the database. It does hold a link, where the letter has one: it is deleted once the mail is out,
and the link's token is short-lived and good for one use.
"""

from homeserver.mail.queue import Mail, queue_mail
from homeserver.mail.sender import MailSender, try_smtp

__all__ = ["Mail", "MailSender", "queue_mail", "try_smtp"]
