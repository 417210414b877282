"""A process that changes a store without end and tells each acknowledged event, until somebody kills it."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from lighthousefs.domain import commands as c
from lighthousefs.engine.engine import Engine
from lighthousefs.engine.opening import KNOWN, open_store
from lighthousefs.errors import Refused
from lighthousefs.ids import ROOT_INO
from lighthousefs.storage.store import Store


def acknowledge(engine: Engine, seq: int) -> None:
    """One line: the seq and the id of the event, in hex."""
    logged = engine.log.get(seq)
    assert logged is not None
    os.write(1, b"%d %s\n" % (seq, logged.event.id.hex().encode()))


def command(rng: random.Random, engine: Engine, author: c.Author) -> c.Command:
    children = engine.at(engine.last_seq).children(ROOT_INO)
    name = b"%d" % rng.randrange(40)
    if len(children) < 5 or rng.random() < 0.2:
        return c.CreateFile(ROOT_INO, name, 0o644, author.uid, author.gid)
    there = rng.choice(children)
    data = bytes([rng.randrange(256)]) * rng.choice([10, 5_000, 100_000])
    choices: list[c.Command] = [
        c.Write(there.ino, rng.randrange(100_000), data, False, 0),
        c.Write(there.ino, 0, data, True, 0),
        c.Truncate(there.ino, rng.randrange(50_000), 0),
        c.Rename(ROOT_INO, there.name, ROOT_INO, name),
        c.Unlink(ROOT_INO, there.name),
        c.SetXattr(there.ino, b"user.at", b"%d" % engine.last_seq),
        c.CloseVersion(there.ino, 0, 0, "close"),
    ]
    return rng.choice(choices)


def main(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    engine = open_store(Store.open(path, KNOWN)).engine
    author = engine.author(1000, 1000, os.getpid())
    while True:
        for child in engine.at(engine.last_seq).children(ROOT_INO)[::2]:
            engine.open_inodes[child.ino] += 1
        try:
            if rng.random() < 0.1:
                commands = [command(rng, engine, author) for _ in range(rng.randrange(1, 30))]
                for seq in engine.submit_batch(commands, author):
                    acknowledge(engine, seq)
            else:
                seq = engine.submit(command(rng, engine, author), author)
                if seq:
                    acknowledge(engine, seq)
        except Refused:
            continue
        if rng.random() < 0.03:
            engine.commit()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
