"""Whom changes are attributed to and what they are part of: agents, the sessions they work in, and correlations, by the
small numbers that events carry."""

from __future__ import annotations

import errno
from typing import NamedTuple

import msgpack

from lighthousefs import limits
from lighthousefs.domain.commands import Announce, Author, Command
from lighthousefs.domain.events import AgentRegistered, CorrelationBegun, CorrelationKind, SessionStarted
from lighthousefs.errors import Refused
from lighthousefs.tables.kv import Kv
from lighthousefs.tables.schema import Table, seq_key

SYSTEM_AGENT = "lighthousefs"


class Session(NamedTuple):
    """`agent` is the agent's number."""

    number: int
    agent: int
    uid: int
    gid: int
    kind: str


class Identities:
    """Agents and sessions as the tables have them, and what must be announced before a newcomer can write.

    Whoever has not said who it is works as agent `uid-N`, in one session for each uid and gid.
    """

    def __init__(self, kv: Kv) -> None:
        self.agents: dict[int, str] = {}
        self.sessions: dict[int, Session] = {}
        self._agent_numbers: dict[str, int] = {}
        self._uid_sessions: dict[tuple[int, int], Session] = {}
        self._kv = kv
        for key, value in kv.scan(Table.AGENTS):
            agent, _kind = msgpack.unpackb(value)
            self._add_agent(int.from_bytes(key, "big"), agent)
        for key, value in kv.scan(Table.SESSIONS):
            self._add_session(Session(int.from_bytes(key, "big"), *msgpack.unpackb(value)))

    def _add_agent(self, number: int, agent: str) -> None:
        self.agents[number] = agent
        self._agent_numbers[agent] = number

    def _add_session(self, session: Session) -> None:
        self.sessions[session.number] = session
        if session.kind == "uid":
            self._uid_sessions[session.uid, session.gid] = session

    def agent_name(self, number: int) -> str:
        return self.agents.get(number, f"agent-{number}")

    def agent_of(self, uid: int, _gid: int) -> str:
        """The agent as whom (uid, gid) works, or would."""
        return f"uid-{uid}"

    def agent_number(self, agent: str) -> int | None:
        return self._agent_numbers.get(agent)

    def find_session(self, uid: int, gid: int) -> Session | None:
        """The session of everyone who is just this uid and gid."""
        return self._uid_sessions.get((uid, gid))

    def correlation_name(self, number: int) -> str | None:
        """What people call the correlation by; None for 0, which is none."""
        value = self._kv.get(Table.CORRELATIONS, seq_key(number)) if number else None
        return None if value is None else str(msgpack.unpackb(value)[0])

    def find_correlation(self, name: str) -> int:
        """Its number, 0 if there is none of that name."""
        for key, value in self._kv.scan(Table.CORRELATIONS):
            if msgpack.unpackb(value)[0] == name:
                return int.from_bytes(key, "big")
        return 0

    def new_correlation(self, kind: CorrelationKind, origin: bytes) -> CorrelationBegun:
        """What must be announced, as the first event of it, when changes that belong together begin."""
        last = self._kv.floor(Table.CORRELATIONS, seq_key((1 << 64) - 1))
        number = 1 if last is None else int.from_bytes(last[0], "big") + 1
        return CorrelationBegun(number, f"{kind}-{number}", kind, origin[: limits.ORIGIN_BYTES_MAX])

    def introduce(self, uid: int, gid: int) -> list[Command]:
        """What must be announced before (uid, gid) can change anything; `learn` must be told when it was."""
        agent = self.agent_of(uid, gid)
        number = self._agent_numbers.get(agent)
        announcements: list[Command] = []
        if number is None:
            number = max(self.agents, default=-1) + 1
            announcements.append(Announce(AgentRegistered(number, agent, "uid")))
        session = max(self.sessions, default=-1) + 1
        if session > limits.SESSION_MAX:
            raise Refused(errno.ENOSPC, f"all {limits.SESSION_MAX} sessions are used")
        announcements.append(Announce(SessionStarted(session, number, uid, gid, "uid")))
        return announcements

    def learn(self, announcements: list[Command]) -> None:
        """The announcements were accepted."""
        for command in announcements:
            assert isinstance(command, Announce)
            fields = command.fields
            if isinstance(fields, AgentRegistered):
                self._add_agent(fields.number, fields.agent)
            else:
                self._add_session(Session(*fields))


def author_of(session: Session, pid: int) -> Author:
    """Author of what process `pid` does in `session`."""
    return Author(session.agent, session.number, session.uid, session.gid, pid)
