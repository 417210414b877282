"""Plain folders in and out of a project.

`walk` goes through a plain folder beside what the project has at the same places; `bring` makes the project like it, in
batches; `take` writes a moment out as plain files; `places` refuses folders that lie in one another.
"""
