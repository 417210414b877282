"""The process that serves a mount: `serve` puts all rooms together, `durability` keeps the disk up to date.

`python -m lighthousefs.daemon` is how the command line starts it.
"""
