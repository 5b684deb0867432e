"""The server's own pages for people: sign-in, consent, registration, the account.

    visits.py       who visits with what: cookie, session, language, form; checks that a form is ours and fresh
    pages.py        templates -> responses, with the headers that keep them safe; redirects; error pages
    routing.py      a page's handlers -> routes
    destinations.py where a visitor may be sent on to
    messages.py     errors -> sentences in the visitor's language
    routes.py       all pages as one table
    the rest        a page each, or a few that belong together

The pages are rendered here, work without JavaScript, and carry none (but the two fallback pages whose whole point is to
tell a client's script that it is done). No page loads anything from elsewhere. A form carries a token that is bound to
the browser's cookie, and a request that another site has caused is refused by what browsers say of it besides.
"""
