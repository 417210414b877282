"""Which node is this: the tree that the mount shows, composed from parts, without a word of FUSE.

`nodes` computes node ids and file handles, for ever; `live` is `current/`, the one part that can be changed; `past` is
everything under `history/@N`; `synthetic` what is computed, out of `items`: texts, `moments` (the links of
`history/`), `runs` (the log as files), `tags` and `versions`; `project` is the live tree as the root of the mount; `tree`
puts the parts together. `computed` and `digests` give the attributes that no event set, `callers` what is told to each caller.
"""
