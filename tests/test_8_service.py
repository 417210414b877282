"""The unit: what it may not have, that systemd takes it, and its command, run as systemd would run it."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import ENVIRONMENT, HANG_SECONDS, PROGRAM, daemon_of, detach, done, kill, rows
from mounting import require_fuse

from lighthousefs import mountinfo
from lighthousefs.engine.opening import create_store

UNIT = Path(__file__).parent.parent / "systemd" / "lighthousefs@.service"
PROGRAM_IN_UNIT = "/usr/local/bin/lighthousefs"
EXPOSURE_MAX = 4.5
"""Of 10, as `systemd-analyze security` counts; much of it is what a mount namespace of its own would bring."""
_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
STOPPING = "STOPPING=1\nSTATUS=flushes and unmounts"

NAMESPACING = frozenset(
    re.findall(
        r"\w+",
        """
    RootDirectory RootDirectoryStartOnly RootImage RootEphemeral RootHash RootVerity MountAPIVFS BindLogSockets
    BindPaths BindReadOnlyPaths MountImages ExtensionImages ExtensionDirectories TemporaryFileSystem
    ReadWritePaths ReadOnlyPaths InaccessiblePaths ExecPaths NoExecPaths
    ReadWriteDirectories ReadOnlyDirectories InaccessibleDirectories
    MountFlags PrivateMounts PrivateTmp PrivateDevices PrivateNetwork NetworkNamespacePath PrivateIPC IPCNamespacePath
    PrivateUsers PrivateUsersEx PrivatePIDs PrivateBPF PrivateTmpEx UserNamespacePath MountNamespacePath
    ProtectSystem ProtectHome ProtectKernelTunables ProtectKernelModules ProtectKernelLogs
    ProtectControlGroups ProtectControlGroupsEx ProtectProc ProcSubset ProtectHostname ProtectHostnameEx
    DynamicUser LogNamespace JoinsNamespaceOf
    RuntimeDirectory StateDirectory CacheDirectory LogsDirectory ConfigurationDirectory
    """,
    )
)
"""All that systemd makes a mount namespace for: by itself, or with another one, or in some of its versions."""


def settings(text: str) -> list[tuple[str, str]]:
    lines = [line.strip() for line in text.splitlines() if not line.lstrip().startswith(("#", ";"))]
    return [(name.strip(), value.strip()) for name, mark, value in (line.partition("=") for line in lines) if mark]


def namespacing(text: str) -> set[str]:
    return {name for name, _value in settings(text)} & NAMESPACING


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is there, as `verify` looks for it."""
    program = tmp_path / "lighthousefs"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "units").mkdir()
    copy = tmp_path / "units" / UNIT.name
    copy.write_text(UNIT.read_text().replace(PROGRAM_IN_UNIT, str(program)))
    return copy


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS, check=False)


def test_the_service_has_no_mount_namespace_of_its_own() -> None:
    assert namespacing(UNIT.read_text()) == set()
    assert {"Type", "ExecStart"} <= {name for name, _value in settings(UNIT.read_text())}
    assert namespacing("[Service]\n  PrivateTmp = no\n#PrivateMounts=yes\nBindPaths=/a\n") == {
        "PrivateTmp",
        "BindPaths",
    }


def test_systemd_sees_no_mount_namespace_either(unit: Path) -> None:
    found = json.loads(analyze("security", "--offline=true", "--json=short", unit).stdout)
    of_name = {check["name"].rstrip("="): check["set"] for check in found}
    told = [name for name in of_name if name in NAMESPACING]
    assert {"PrivateTmp", "ProtectSystem", "ProtectProc", "PrivateMounts"} <= set(told)
    assert [name for name in told if of_name[name] and name != "RootDirectory"] == []


def test_systemd_takes_the_unit_without_a_word(unit: Path) -> None:
    for name in ("lighthousefs@.service", "lighthousefs@work.service"):
        told = analyze("verify", unit.with_name(name))
        assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
    unit.write_text(unit.read_text().replace("Restart=on-failure", "Restrat=on-failure"))
    assert "Restrat" in analyze("verify", unit).stderr


def test_the_service_is_exposed_no_more_than_it_must(unit: Path) -> None:
    threshold = f"--threshold={EXPOSURE_MAX * 10:.0f}"
    told = analyze("security", "--offline=true", threshold, unit)
    assert told.returncode == 0, told.stdout


class Service:
    """The unit's ExecStart, with the socket that systemd would listen at, and what of its confinement can be had here."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "store"
        self.mount_point = folder / "mount"
        self.config = folder / "work.toml"
        self.given = dict(settings(UNIT.read_text()))
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(HANG_SECONDS)
        self.socket.bind(str(folder / "notify"))
        self.process: subprocess.Popen[str] | None = None
        self.options = "--allow-other"

    def start(self) -> subprocess.Popen[str]:
        named = {"STORE": str(self.store), "MOUNT_POINT": str(self.mount_point)}
        command = self.given["ExecStart"].replace("/etc/lighthousefs/%i.toml", str(self.config))
        command = re.sub(r"\$\{(\w+)\}", lambda found: shlex.quote(named[found[1]]), command)
        words = shlex.split(command.replace("$OPTIONS", self.options))
        assert words.pop(0) == PROGRAM_IN_UNIT
        bounding = [f"+{name.removeprefix('CAP_').lower()}" for name in self.given["CapabilityBoundingSet"].split()]
        confined = ["setpriv", f"--bounding-set=-all,{','.join(bounding)}", "--inh-caps=-all", "--no-new-privs"]
        self.process = subprocess.Popen(
            [*confined, *PROGRAM, *words],
            env={**ENVIRONMENT, "NOTIFY_SOCKET": self.socket.getsockname()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            umask=int(self.given["UMask"], 8),
            preexec_fn=refuse_executable_memory,
        )
        return self.process

    def heard(self) -> str:
        return self.socket.recv(4096).decode()

    def ended(self) -> tuple[int, str]:
        assert self.process is not None
        said, _ = self.process.communicate(timeout=HANG_SECONDS)
        return self.process.returncode, said

    def said_nothing_more(self) -> bool:
        self.socket.settimeout(0)
        try:
            self.socket.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(HANG_SECONDS)
        return False


def refuse_executable_memory() -> None:
    """MemoryDenyWriteExecute=, where the kernel (6.3) can do it for one process."""
    ctypes.CDLL(None).prctl(_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    require_fuse()
    made = Service(tmp_path)
    create_store(made.store, uid=os.getuid(), gid=os.getgid())
    made.mount_point.mkdir()
    made.config.write_text("")
    yield made
    made.socket.close()
    detach(made.mount_point)
    if made.process is not None:
        made.process.kill()
        made.process.communicate()


def last_event(store: Path) -> dict[str, Any]:
    (row,) = rows("log", store, "--raw", "-n", "1")
    return row


def test_ready_comes_when_the_mount_answers_and_stopping_on_the_way_down(service: Service) -> None:
    service.start()
    assert service.heard() == "READY=1"
    assert (service.mount_point / "README.md").read_text()
    (service.mount_point / "current/a").write_text("a")
    assert mountinfo.mount_at(service.mount_point) is not None
    assert service.process is not None
    service.process.send_signal(signal.SIGTERM)
    assert service.heard() == STOPPING
    status, said = service.ended()
    assert (status, mountinfo.mount_at(service.mount_point), daemon_of(service.store)) == (0, None, None), said
    assert "SIGTERM: flushing and unmounting" in said
    assert service.said_nothing_more()
    event = last_event(service.store)
    assert (event["type"], event["reason"]) == ("unmounted", "stopped")
    assert "a" in done("log", service.store, "a")


def test_a_killed_daemon_is_started_again_over_its_dead_mount(service: Service) -> None:
    service.start()
    assert service.heard() == "READY=1"
    (service.mount_point / "current/a").write_text("kept")
    pid = daemon_of(service.store)
    assert pid is not None
    kill(pid)
    assert service.ended()[0] == -signal.SIGKILL
    assert mountinfo.is_dead(service.mount_point)
    service.start()
    assert service.heard() == "READY=1"
    assert (service.mount_point / "current/a").read_text() == "kept"


def test_it_serves_all_users_with_the_capabilities_left_and_ends_well_when_unmounted(service: Service) -> None:
    service.options = "--allow-other --acl"
    service.config.write_text("[bounds]\nquestions_max = 64\n")
    service.start()
    assert service.heard() == "READY=1"
    current = service.mount_point / "current"
    current.chmod(0o777)
    everybodys = ["setpriv", "--reuid=1234", "--regid=1235", "--clear-groups"]
    script = "import os; os.chdir('current'); f = open('b', 'w'); f.write('b'); f.close(); os.chmod('b', 0o4755)"
    subprocess.run([*everybodys, sys.executable, "-c", script], cwd=service.mount_point, check=True)
    os.chown(current / "b", 4321, 4322)
    assert ((current / "b").stat().st_uid, (current / "b").stat().st_gid) == (4321, 4322)
    (shown,) = rows("config", "show", service.mount_point)
    assert shown["settings"]["bounds"]["questions_max"] == 64
    done("unmount", service.mount_point)
    assert service.heard() == STOPPING
    assert service.ended()[0] == 0


def test_neither_wrong_settings_nor_a_missing_store_are_tried_again_or_made(service: Service) -> None:
    assert service.given["RestartPreventExitStatus"] == "2"
    service.config.write_text("paste = 1")
    service.start()
    status, said = service.ended()
    assert (status, "did you mean past?" in said) == (2, True)
    service.config.write_text("")
    service.store.rename(service.store.with_name("elsewhere"))
    service.start()
    status, said = service.ended()
    assert status == 2, said
    assert not service.store.exists()
    assert service.said_nothing_more()


def test_a_daemon_in_the_background_says_nothing(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever runs it in a script of a service would be told of the wrong process.
    monkeypatch.setitem(ENVIRONMENT, "NOTIFY_SOCKET", service.socket.getsockname())
    done("mount", service.store, service.mount_point)
    done("unmount", service.mount_point)
    assert service.said_nothing_more()
