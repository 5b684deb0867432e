"""Files that people upload and that other servers give: the content repository.

    store.py         the bytes, as files named by their hash; nothing is there by its name before all of it is
    repository.py    Media: upload, find, fetch, remove; one transaction each
    content.py       content types and file names, as they may be repeated to a browser
    multipart.py     the form in which servers give files to one another
    remote_files.py  fetching a file from its server
    thumbnails.py    smaller forms of images: which sizes, made once, in a process apart
    opened.py        all of it put together
    render.py        what runs in that process; it imports nothing of ours

Bytes and rows are kept apart: equal files are there once, and go when the last row that means them has gone.

# spec: client-server-api/#content-repository
"""
