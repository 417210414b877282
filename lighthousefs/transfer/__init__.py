"""Plain folders in and out of a project.

`walk` goes through a plain folder beside what the project has at the same places, `compare` tells what a thing there differs
in; `survey` looks before anything is written, `plan` counts what an import would change, `bring` makes the project like the
folder, in batches; `take` writes a moment out as plain files; `descent` goes into folders however deep; `places`
refuses folders that lie in one another.
"""
