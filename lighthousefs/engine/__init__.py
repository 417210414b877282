"""One writer: decide, journal, index, apply; and opening a store so that all of it is there again.

`engine` takes commands and answers reads; `opening` creates, recovers and closes a store; `rebuild` makes the index anew
from the journal, `replaying` applies what it has beyond the index; `space` says who may write on a full disk; `identity`
knows the agents and sessions that events are attributed to.
"""
