"""What `scripts/bench` runs: the mount beside the plain file system, bindfs and the floor of this stack.

floor        a file system in dictionaries on the same request loop: what a request costs before any work
mounts       the file systems that are compared: start, count requests, stop
operations   what is measured, and its goals
measure      the alternating runs: medians of times and of ratios within a run
table        figures and goals as text and as JSON
"""
