"""The command line: one module a command, nothing loaded that the command at hand does not need.

`main` is the program and its border for errors; `target` tells what TARGET is; `asking` gets an answer from the daemon
that has the store, or opens the store itself; `proving` makes and checks proofs; `output` is the only place that prints.
"""
