"""Answers: what can be asked of an engine, whoever asks (the control socket, the command line, a file in `status/`).

`eventjson` turns an event into what JSON can hold; `history` lists and shows events: `selection` finds them in the indexes,
`concerned` those about a path, `grouping` makes one line of what a person calls one change, `noise` knows what is seldom
worth a line; `differing` what two moments differ in, `changed` which paths changed or are gone; `lineage` follows a file's
versions to what it took the place of, `blaming` and `standing` tell them to who asks for lines; `visible` knows which of
them an asker may see; `proofs` proves one against a head of the log; `health` says how a store is, `alerts` what is wrong
with it, `costs` what its bytes are for, `caches` holds what is in memory against the tables; `bounds` reads the WHEN of a
question. `versions` finds every version of the files
that ever were at a path, `tags` are the names of moments.
Long answers are generators that yield a row, or None where the work may pause: between two items the engine may change and
commit, so nothing of the database is held from one to the next.
"""
