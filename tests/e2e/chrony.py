"""A real chronyd on loopback for a test, with its own ports and files; `-x` keeps it off the machine's clock."""

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.clock import Chrony, NtpServer, Sntp

# Chronyd starts in a tenth of a second and selects a source after four packets, two seconds apart; the rest is a slow machine.
READY_TIMEOUT_S = 30.0
LOOK_EVERY_S = 0.05
DISPERSION_MAX_S = 0.05

# Debian installs chronyd where only root looks for programs. bin/setup-system unpacks it there instead: installed, it would
# take over the clock of the machine that the tests run on.
UNPACKED = Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache") / "pronto-mensa" / "chrony" / "usr"
PATH = os.pathsep.join(
    (os.environ.get("PATH", ""), "/usr/sbin", "/sbin", str(UNPACKED / "sbin"), str(UNPACKED / "bin"))
)


@dataclass(frozen=True, slots=True)
class Chronyd:
    """One running chronyd, its NTP port and its command socket."""

    process: subprocess.Popen[bytes]
    port: int
    command_socket: Path

    @property
    def server(self) -> NtpServer:
        return NtpServer("127.0.0.1", self.port)

    @property
    def sntp(self) -> Sntp:
        """This chronyd as a stranger's NTP server."""
        return Sntp(self.server)

    @property
    def tracking(self) -> Chrony:
        """This chronyd as that of the machine."""
        return Chrony(("-h", str(self.command_socket)), program=_program("chronyc"))

    def vanish(self) -> None:
        self.process.kill()
        self.process.wait()

    def says(self, report: str) -> str:
        """One line of `chronyc -c`, empty while it does not answer."""
        asked = subprocess.run(
            [_program("chronyc"), "-h", str(self.command_socket), "-c", "-n", report],
            capture_output=True,
            text=True,
            timeout=READY_TIMEOUT_S,
            check=False,
        )
        return asked.stdout.strip()


@contextmanager
def chronyd(*directives: str, leap: str = "Normal", port: int | None = None) -> Iterator[Chronyd]:
    """Run a chronyd with these lines of chrony.conf(5), ready when it reports the leap status `leap`."""
    port = port or free_port()
    # Unix sockets have short paths and chronyc makes its own beside chronyd's, so pytest's long folders will not do.
    with tempfile.TemporaryDirectory(prefix="chrony-") as name:
        folder = Path(name)
        (folder / "chrony.conf").write_text(
            "\n".join(
                (
                    f"port {port}",
                    "bindaddress 127.0.0.1",
                    "allow 127.0.0.1",
                    "cmdport 0",
                    f"bindcmdaddress {folder}/socket",
                    f"pidfile {folder}/pid",
                    *directives,
                    "",
                )
            )
        )
        rights = ("-u", "root") if os.geteuid() == 0 else ("-U", "-u", getpass.getuser())
        log = folder / "log"
        with log.open("wb") as written:
            process = subprocess.Popen(
                [_program("chronyd"), "-x", "-d", *rights, "-f", str(folder / "chrony.conf")],
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
            )
        running = Chronyd(process, port, folder / "socket")
        try:
            _wait_until_ready(running, leap, log)
            yield running
        finally:
            running.vanish()


def free_port() -> int:
    """A UDP port that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        port: int = udp.getsockname()[1]
        return port


def _wait_until_ready(running: Chronyd, leap: str, log: Path) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while not _is_settled(running.says("tracking"), leap):
        if running.process.poll() is not None or time.monotonic() > deadline_s:
            raise RuntimeError(f"chronyd did not become {leap!r} within {READY_TIMEOUT_S:g} s:\n{log.read_text()}")
        time.sleep(LOOK_EVERY_S)


def _is_settled(tracking: str, leap: str) -> bool:
    fields = tracking.split(",")
    if len(fields) != 14 or fields[13] != leap:
        return False
    # After its first packets chronyd guesses wildly at the frequency, and owns up to that in the root dispersion.
    return leap != "Normal" or float(fields[11]) < DISPERSION_MAX_S


def _program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    if found is None:
        raise RuntimeError(f"{name} is not installed: expected Debian's package chrony (`make setup` installs it)")
    return found
