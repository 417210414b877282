"""The log: events in seq order, their contents, and how both come back after a crash.

`clock` is the log's time; `eventlog` sequences, journals and reads events; `payloads` stores and reads contents, verified;
`recovery` applies again what the journal has and the index has not.
"""
