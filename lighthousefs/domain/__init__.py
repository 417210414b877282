"""What may happen to a project, purely: commands go in, events or a refusal come out, and events change a state.

`events` declares every event type once; `codec` turns events into bytes for ever; `commands` is what can be asked;
`decide` says yes or no; `apply` is the one function that changes derived tables; `state` is what both see of them;
`permission` is who may do what to a row; `overlay` tells which bytes of its writes a file is made of, from events alone.
Nothing here reads a clock, draws a random number, or knows of FUSE, tasks or databases.
"""
