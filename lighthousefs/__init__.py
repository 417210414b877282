"""LighthouseFS: a project as a tree of files in which every change is an event and the past is just more folders.

    kernel ── fuse ── namespace ── engine ── log ──── journal (storage)
               │          │          │        └───── tables ── LMDB (storage)
               │          │          └ domain: decide, events, apply
               │          └ views: what history/ and status/ are called and hold
               └ daemon, control socket, cli

A change travels once: the kernel's request becomes a command; `domain.decide` accepts or refuses it; what is accepted is
one event, written to the journal with its contents before the caller gets an answer; `domain.apply` puts its effects into
the tables, where today and every past moment are each one seek away. Rooms import only downward:

 0  ids, errors, limits, layout, shell, mountinfo, processes, runtime
 1  domain (pure), storage (journal, LMDB, the store's folder), text (lines, and what differs)
 2  tables (what is and what was), views (names and texts), config (settings)
 3  log (events in order, contents)
 4  engine (the one writer), checker (every invariant)
 5  namespace (which node is this), answers (what can be asked), reversal (making things what they were)
 6  fuse (pyfuse3), control (the daemon's socket)
 7  daemon, api (a project as a program sees it)
 8  transfer (plain folders in and out), integrity (verify, repair), backup (copies)
 8  report (a page of what happened)
 9  cli

Words: a *command* asks, an *event* is what was accepted, its *fields* say what; *seq* is an event's place in the log, a
*moment* the project right after an event, the *newest* moment is today. An *ino* names an inode, a *node* is what FUSE
knows of it, an *entry* is a name in a folder, a *body* a file's contents, a *payload* the bytes one event carried, a
*segment* one file of the journal. A *writer* is a machine, an *agent* whoever acts, a *session* an agent's.
"""

__version__ = "0.1.0"
