"""Views: which names a view of the store has and what they contain, computed apart from what FUSE is told.

Pure: no file is opened and no clock is read here. `when` reads every way a person writes a moment,
`versions` says what a version is called.
"""
