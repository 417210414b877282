"""Every invariant of a store's tables: what is broken comes out as sentences. Nothing is changed.

`tables` puts the parts together; each goes once through its tables in their order, in bounded memory, and none needs another:
`events` holds the log against its indexes, `tree` names against inodes, `past` what was against what is, `stored` pieces against
the payloads they are of. `replay` makes all derived tables anew from the events. They look at rows, not at the code that made
them. What a state gathers between commits must have been flushed.
"""
