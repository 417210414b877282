"""System-versioned tables: what is true now and what was true are kept apart, so that today never pays for history.

`schema` lists every table with its key and value; `state` is the live project, which events change; `moment` reads the
project as it was right after any event, `stays` what ever was at a path; `contents` says which stored bytes a file is made
of; `kv` is what all of them need of a database, `rebuild` a batching one for making everything anew.
"""
