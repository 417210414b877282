"""Backups: the journal of a store as it was at one event, kept in a folder of its own.

`manifest` is what makes a backup of pieces of segments; `depot` is the folder that holds both, `disk` all calls that change
it; `create` copies what is lacking, `damaged` tells what of it was not right any more; `records` reads a journal out of
pieces, `verify` proves with it that a backup is whole; `prune` chooses what to keep; `restore` makes a store again.
"""
