"""Integrity: whether a store is what was written, and what can be done where it is not.

`verify` looks at a store, held by a daemon or by nobody, and tells every broken invariant; `repair` mends what the journal proves
and lists what cannot be mended. `parts` are the looks that are taken, each in a process of its own (`apart`), as LMDB kills
whoever reads what is damaged badly enough; `journalled` holds the index against the journal, `replayed` against a replay of it;
`served` asks the daemon and the kernel; `losses` says by path and version what is gone. `proofdocument` is a proof of one event as
people hand it on, `proven` what it proves, without a store.
"""
