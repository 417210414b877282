"""Which node is this: the tree that the mount shows, composed from parts, without a word of FUSE.

`nodes` computes node ids and file handles, for ever; `live` is `current/`, the one part that can be changed; `past` is
everything under `history/@N`; `synthetic` the texts and links that are computed; `tree` puts the parts together;
`handles` keeps what an open file has to remember.
"""
