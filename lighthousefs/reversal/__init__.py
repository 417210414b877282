"""Reversal: the project, or a part of it, made what it was, by changes like any others.

`restoring` plans what makes a path what it was at a moment; `undoing` what takes a set of events back where nothing followed;
`again` writes contents that are stored already. A plan is commands, each answered with what it made (`engine.slices`).
"""
