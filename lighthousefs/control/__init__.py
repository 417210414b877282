"""Control: the daemon's Unix socket, over which commands ask it.

`protocol` is what travels, without I/O; `server` answers under trio, in slices, so that a long answer never stalls the
mount; `admission` knows who may ask; `client` asks, blocking; `handlers` are the questions, `past` and `tagging` those about
the past and about tags, `telling` has the log tell of what commands did; `arguments` what may be said with them, `interface`
what one looks like; `leftovers` clears away what dead daemons left; `problems` says of an error what a person needs to know.
"""
