"""What `scripts/bench` runs: the mount beside the plain file system, bindfs and the floor of this stack, and what is below it.

floor        a file system in dictionaries on the same request loop: what a request costs before any work
mounts       the file systems that are compared: start, count requests, stop
histories    stores of 10,000, 100,000 and 1,000,000 events, made once and kept
materials    what real programs work on, made or fetched once and kept
operations   single calls, and their goals
programs     git, grep, tar, pip and npm, and their goals
timetravel   `scripts/bench history`: the past of one very large store (deepstore), each question of its own (deeppast, deepwork)
running      what every bench does around its work: a folder, words on the terminal, signals, errors
past         the same look-ups and reads in current/ and under history/@N
latency      single calls beside four busy callers
below        the engine without FUSE, beside SQLite and an event-sourcing library (rivals, eventsourced)
whole        rebuild, opening, memory, space, and finding what was at a moment
measure      the alternating runs: medians of times and of ratios within a run
lines        which lines there are, and which one bench measures
sections     the parts of a bench in their order
figures      a figure with its goal
table        all of it as text and as JSON
compare      ratios of two benches side by side
machine      where it ran, and versions
"""
