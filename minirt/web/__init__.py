"""`minirt serve`: what there is and what is done, live in a browser of this machine. It looks, and changes nothing.

    server      HTTP: the page's files, `/events` (server-sent events), `/stories/ID`
    access      who may look: this machine's root, and who called sudo
    board       what there is to show now; readers wait at it for news
    lookout     notices changes (rtnetlink, inotify), and has the board drawn anew
    view        the picture, and facts of containers and networks, as the page takes them
    stories     what commands tell (`minirt.explain.story`), read as they write
    page/       HTML, CSS, JavaScript: all that a browser loads

    [a browser] ◀── SSE ── server ◀── board ◀── lookout ◀── the kernel, records, stories ◀── [minirt run, rm, …]

Only `lookout`, in the main thread, looks at the kernel; each reader has a thread of the server, which only waits and
writes. Nothing of this folder is imported by anybody else; without a reader nothing is looked at.
"""
