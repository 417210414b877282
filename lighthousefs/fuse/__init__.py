"""Floor 5: the kernel's side. The only room that imports pyfuse3.

`requestloop` waits for requests. A handler translates a request into a call of the floors below and its result into
an answer, and does nothing else. `copying` adds a handler that pyfuse3 lacks, through `linkage`.
"""
