"""The storage room: bytes on disk, and nothing about what they mean.

`record` is the journal's format, `segment` its files, `journal` appends and syncs, `writing` makes an append ready, `scan`
reads back and judges the end of the log, `survey` goes on behind every bad place. `environment` holds the LMDB index,
`distrust` tells the next opening of damage in it, `snapshot` copies one that is in use, `reserve` keeps room aside for a full
disk, `store` the store's own folder, its description and its lock.
Synchronous throughout; the only room that imports lmdb.
"""
