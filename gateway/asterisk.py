"""Asterisk as this project runs it: its configuration rendered from `dialplan/`, and one instance started and put away.

Every instance lives in a run folder of its own (configuration, control socket, log), so several run side by side.
"""

import asyncio
import contextlib
import ipaddress
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import jinja2
import phonenumbers

HOUSE = Path(__file__).resolve().parent.parent
TEMPLATES = HOUSE / "dialplan"
SETUP = HOUSE / "bin" / "setup-asterisk"

# Where the run folder appears inside the mount namespace: a folder that every Debian has and Asterisk does not use.
MOUNT_POINT = Path("/mnt")

# Asterisk logs an error for each of these when it is missing; the defaults in them are the wanted ones.
EMPTY_FILES = ("acl.conf", "ccss.conf", "extconfig.conf", "features.conf", "sorcery.conf", "udptl.conf")

# Folders of a run folder besides `etc`, which is read-only for Asterisk.
FOLDERS = ("agi-bin", "cache", "data", "lib", "log", "run", "spool")

# Dead-man timer: what an ordinary step of a call takes (a question re-arms it for longer) plus the two seconds in
# which Asterisk connects. Shorter would cut calls off under load, longer keeps a parent in silence.
DEAD_MAN_S = 8
# From the confirming key to the BYE of a caller who puts the phone down with it; longer is silence for who stays.
HANGING_UP_S = 1
# The longest fallback with a long receipt lasts about 15 s; nothing may hold the channel much longer.
FALLBACK_S = 40
# Without sound for this long a caller is gone. Phones that suppress silence still send a packet every few seconds.
RTP_TIMEOUT_S = 60
# Two hundred at once would be four times what the largest town's evening brings, at 40 ms of CPU each.
CALLS_MAX = 200

# A loaded machine of two cores boots it in about a second; beyond this it hangs.
BOOT_LIMIT_S = 30.0
# One command at the control socket answers in milliseconds.
COMMAND_LIMIT_S = 10.0
# Hanging up every channel and writing its database; then it is killed.
STOP_LIMIT_S = 5.0
# Looking for it is quick; getting it waits for a mirror and for another set-up, which have limits of their own.
SETUP_LIMIT_S = 3900.0
# Enough of the log to show the first mistake and what it led to.
LOG_TAIL_LINES = 12

# The user and group Asterisk runs as where we are root: a number that Debian and systemd leave free, so that no other
# program on this machine shares it (what the package's own number is in its root may be somebody else's here).
ASTERISK_ID = 60873

# The control socket's path must fit into `sun_path` (108 bytes with its final zero, unix(7)).
SOCKET_PATH_MAX_BYTES = 107

# Run by a shell in fresh mount and process namespaces: puts the run folder in its place, then becomes Asterisk. Clips
# and configuration are read-only for it; /proc is that of the new process namespace; names are looked up as this machine
# looks them up. Where the root is no mount of its own, as in a plain chroot, there is nothing to make private. The last
# setpriv drops every privilege, and asks again to die with its parent, which the change of user undoes.
CONFINE = """\
set -e
mount --make-rprivate / 2>/dev/null || :
run=$1 sounds=$2 root=$3 place=$4 id=$5
shift 5
mkdir -p "$run/data/sounds"
mount --bind "$sounds" "$run/data/sounds"
mount -o remount,bind,ro "$run/data/sounds"
mount --bind "$run/etc" "$run/etc"
mount -o remount,bind,ro "$run/etc"
mount --rbind "$run" "$root$place"
mount -t proc proc "$root/proc"
if [ "$root" != / ]; then
    mount --bind /dev "$root/dev"
    for file in hosts resolv.conf; do
        if [ -e "/etc/$file" ] && [ -e "$root/etc/$file" ]; then mount --bind "/etc/$file" "$root/etc/$file"; fi
    done
fi
exec chroot "$root" setpriv --reuid="$id" --regid="$id" --clear-groups --inh-caps=-all --bounding-set=-all \\
    --no-new-privs --pdeathsig KILL -- "$@"
"""

_PLAIN_VALUE = re.compile(r"[^\s;\"\\\[\]{}$]+")


class AsteriskFailed(Exception):  # noqa: N818 - it names what happened, as LineFailed does
    """Raised when Asterisk cannot be had, started or spoken to; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Trunk:
    """The operator's line, in production: who may call in (`addresses`, IP addresses or networks) and how to register.

    Without `username` nothing is registered: the operator knows this machine by its address.
    `external_address` is this machine's address as the operator sees it, where a router stands between.
    """

    host: str
    addresses: tuple[str, ...]
    username: str = ""
    password: str = ""
    external_address: str = ""

    def __post_init__(self) -> None:
        if not self.addresses:
            raise ValueError("trunk: no address is given; expected at least one IP address or network of the operator")
        for address in self.addresses:
            ipaddress.ip_network(address, strict=False)
        if self.external_address:
            ipaddress.ip_address(self.external_address)
        _refuse_unwritable("trunk.host", self.host)
        if self.username:
            _refuse_unwritable("trunk.username", self.username)
            _refuse_unwritable("trunk.password", self.password)


@dataclass(frozen=True, slots=True, kw_only=True)
class AsteriskSettings:
    """What one instance of Asterisk is told. Without `trunk` it rehearses: loopback only, no registration, any caller.

    `numbers` are the towns' dialled numbers; `sounds` holds one folder of clips per language; `gateways` are the two
    FastAGI addresses (`host:port`), the second of which is asked when the first does not take a call.
    """

    numbers: tuple[str, ...]
    sounds: Path
    ami_secret: str
    ami_user: str = "mensa"
    language: str = "it"
    sip_address: str = "127.0.0.1"
    sip_port: int = 5060
    websocket_port: int = 8088
    ami_port: int = 5038
    gateways: tuple[str, str] = ("127.0.0.1:4573", "127.0.0.1:4574")
    rtp_first: int = 10000
    rtp_last: int = 10999
    calls_max: int = CALLS_MAX
    trunk: Trunk | None = None

    def __post_init__(self) -> None:
        if not self.numbers:
            raise ValueError("numbers: none is given; expected at least one dialled number")
        for number in self.numbers:
            if not re.fullmatch(r"\+?[0-9]{2,15}", number):
                raise ValueError(f"numbers: {number!r} is no telephone number; expected 2 to 15 digits, + before them")
        for name in ("ami_secret", "ami_user", "sip_address", "language"):
            _refuse_unwritable(name, getattr(self, name))
        for gateway in self.gateways:
            if not re.fullmatch(r"[A-Za-z0-9.\-]+:[0-9]{1,5}", gateway):
                raise ValueError(f"gateways: {gateway!r} is no address; expected host:port, such as 127.0.0.1:4573")
        # A call takes a port for its sound and the next one for RTCP.
        ports = self.rtp_last - self.rtp_first + 1
        if ports < 2 * self.calls_max:
            raise ValueError(
                f"rtp ports: {self.rtp_first}-{self.rtp_last} are {ports} ports; expected {2 * self.calls_max}, "
                f"two for each of {self.calls_max} calls"
            )


def dialled_forms(numbers: Sequence[str]) -> tuple[str, ...]:
    """The ways in which operators and softphones may write the configured numbers: as given, E.164, 39…, 0039…, national."""
    forms: dict[str, None] = {}
    for number in numbers:
        forms[number] = None
        try:
            parsed = phonenumbers.parse(number, "IT")
        except phonenumbers.NumberParseException:
            continue
        international = f"{parsed.country_code}{phonenumbers.national_significant_number(parsed)}"
        for form in (f"+{international}", international, f"00{international}"):
            forms[form] = None
        if parsed.country_code == phonenumbers.country_code_for_region("IT"):
            forms[phonenumbers.national_significant_number(parsed)] = None
    return tuple(forms)


def render(settings: AsteriskSettings, folder: Path, place: Path | None = None) -> None:
    """Write the configuration to `folder`/etc, owner-only, and make the folders beside it.

    `place` is the run folder's path as Asterisk will see it; by default the folder itself.
    """
    etc = folder / "etc"
    etc.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in FOLDERS:
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Configuration files, not HTML; AsteriskSettings refuses what could not stand in one.
        autoescape=False,  # noqa: S701
    )
    values = {name: getattr(settings, name) for name in settings.__slots__}
    values |= {
        "place": place or folder,
        "dialled": dialled_forms(settings.numbers),
        "dead_man_s": DEAD_MAN_S,
        "hanging_up_s": HANGING_UP_S,
        "fallback_s": FALLBACK_S,
        "rtp_timeout_s": RTP_TIMEOUT_S,
    }
    for name in environment.list_templates(extensions=["j2"]):
        _write_private(etc / name.removesuffix(".j2"), environment.get_template(name).render(values))
    for name in EMPTY_FILES:
        _write_private(etc / name, "; The defaults are the wanted ones.\n")


def link_data(folder: Path, sounds: Path | None, root: Path) -> None:
    """Link into `folder`/data the clips, unless they are mounted there, and the documentation of the Asterisk in `root`.

    SIP does not load without Asterisk's own XML documentation, from which it takes the defaults.
    """
    documentation = folder / "data" / "documentation"
    documentation.unlink(missing_ok=True)
    for place in ("usr/share/asterisk", "var/lib/asterisk"):
        if (root / place / "documentation").is_dir():
            documentation.symlink_to(Path("/") / place / "documentation")
            break
    if sounds is not None:
        link = folder / "data" / "sounds"
        link.unlink(missing_ok=True)
        link.symlink_to(sounds.resolve())


def kept_secret(path: Path) -> str:
    """The secret in `path`; made there, mode 0600, when there is none yet."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(24))
    return path.read_text(encoding="ascii")


async def asterisk_root(*, get: bool = False) -> Path:
    """The root folder that Asterisk lives in: `/`, or the small Debian that `bin/setup-asterisk` made.

    With `get` it is made when there is none, which takes a minute. Raises `AsteriskFailed` with what to do.
    """
    process = await asyncio.create_subprocess_exec(
        SETUP,
        *(() if get else ("--where",)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=None if get else asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), SETUP_LIMIT_S if get else COMMAND_LIMIT_S)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if process.returncode != 0:
        raise AsteriskFailed((err or b"").decode(errors="replace").strip() or f"{SETUP} found no Asterisk")
    return Path(out.decode().strip())


class RunningAsterisk:
    """One instance of Asterisk, up from `start` to `stop`, or for the time of an `async with`.

    As root it runs as a user of its own in a mount and a process namespace of its own, which end with it: nothing
    stays mounted, no process stays behind, also when this process is killed. The network is the machine's own.
    As another user it runs as that user, from an Asterisk on PATH.
    """

    def __init__(self, settings: AsteriskSettings, folder: Path, root: Path) -> None:
        self.settings = settings
        self.folder = folder.resolve()
        self._root = root
        self._confined = os.geteuid() == 0
        self._place = MOUNT_POINT if self._confined else self.folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> Path:
        """Where this instance writes its notices, warnings and errors."""
        return self.folder / "log" / "messages.log"

    async def start(self) -> None:
        """Render the configuration, start Asterisk and wait until it answers. Raises `AsteriskFailed` with its log's end."""
        if not self._confined and len(os.fsencode(self._place / "run" / "asterisk.ctl")) > SOCKET_PATH_MAX_BYTES:
            raise AsteriskFailed(
                f"asterisk: the path of {self.folder} is too long for its control socket; "
                f"expected at most {SOCKET_PATH_MAX_BYTES - 17} bytes. Choose a shorter run folder"
            )
        render(self.settings, self.folder, self._place)
        self.log.unlink(missing_ok=True)
        link_data(self.folder, None if self._confined else self.settings.sounds, self._root)
        if self._confined:
            self._give_away()
        self._process = await asyncio.create_subprocess_exec(
            *self._command_line(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=(self.folder / "stderr.log").open("wb"),
            # Ctrl-C in the terminal goes to us alone, and we put it away in order.
            start_new_session=True,
            # It needs nothing of our environment, where secrets may stand.
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin", "TZ": "UTC"},
            cwd="/",
        )
        try:
            await asyncio.wait_for(self._until_it_answers(self._process), BOOT_LIMIT_S)
        except TimeoutError:
            await self.stop()
            raise AsteriskFailed(
                f"asterisk: did not answer within {BOOT_LIMIT_S:.0f} s and was put away. {self._log_tail()}"
            ) from None
        except BaseException:
            await self.stop()
            raise

    async def command(self, line: str) -> str:
        """What Asterisk's own console answers to `line`, such as `core show channels count`."""
        if self._process is None:
            raise AsteriskFailed(f"asterisk: {line!r} was asked of an instance that is not running")
        console = await asyncio.create_subprocess_exec(
            *self._enter(),
            "asterisk",
            "-C",
            str(self._place / "etc" / "asterisk.conf"),
            "-rx",
            line,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd="/",
        )
        try:
            out, err = await asyncio.wait_for(console.communicate(), COMMAND_LIMIT_S)
        except TimeoutError:
            raise AsteriskFailed(
                f"asterisk: {line!r} was not answered within {COMMAND_LIMIT_S:.0f} s. {self._log_tail()}"
            ) from None
        finally:
            if console.returncode is None:
                console.kill()
                await console.wait()
        if console.returncode != 0:
            said = (out + err).decode(errors="replace").strip()
            raise AsteriskFailed(f"asterisk: {line!r} could not be asked: {said}. {self._log_tail()}")
        return out.decode(errors="replace")

    async def wait(self) -> None:
        """Return when Asterisk has ended, by itself or by `stop`."""
        if self._process is not None:
            await self._process.wait()

    async def stop(self) -> None:
        """Hang up every call and put Asterisk away; twice is once."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(AsteriskFailed):
                await self.command("core stop now")
            try:
                await asyncio.wait_for(process.wait(), STOP_LIMIT_S)
            except TimeoutError:
                # The kernel kills whatever lives in its process namespace with it.
                process.kill()
                await process.wait()
        self._process = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _command_line(self) -> Sequence[str]:
        """The command that is Asterisk. Each link of the chain dies with the one before it, this process being the first."""
        asterisk = ("asterisk", "-f", "-n", "-C", str(self._place / "etc" / "asterisk.conf"))
        if not self._confined:
            return ("setpriv", "--pdeathsig", "KILL", "--", *asterisk)
        folders = (str(self.folder), str(self.settings.sounds.resolve()), str(self._root), str(self._place))
        confined = ("sh", "-c", CONFINE, "sh", *folders, str(ASTERISK_ID), *asterisk)
        return (
            *("setpriv", "--pdeathsig", "KILL", "--"),
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "unchanged", "--"),
            *confined,
        )

    def _enter(self) -> Sequence[str]:
        """What stands before a command so that it sees the run folder as Asterisk does."""
        assert self._process is not None
        if not self._confined:
            return ()
        return ("nsenter", "--target", str(self._process.pid), "--mount", "--root", "--", "chroot", str(self._root))

    async def _until_it_answers(self, process: asyncio.subprocess.Process) -> None:
        while True:
            if process.returncode is not None:
                raise AsteriskFailed(f"asterisk: ended with {process.returncode} while starting. {self._log_tail()}")
            if (self.folder / "run" / "asterisk.ctl").exists():
                with contextlib.suppress(AsteriskFailed):
                    if "fully booted" in await self.command("core waitfullybooted"):
                        break
            await asyncio.sleep(0.05)
        self._refuse_to_run_deaf()

    def _refuse_to_run_deaf(self) -> None:
        """Asterisk boots also when a module does not load or a port is taken, and then answers no call.

        The configuration here boots without one error, so each error in the log is a reason.
        """
        log = self.log.read_text(encoding="utf-8", errors="replace")
        errors = [line.split("ERROR", 1)[1] for line in log.splitlines() if "] ERROR[" in line]
        if errors:
            raise AsteriskFailed(
                "asterisk: came up with errors and was put away again, since the line would be deaf: "
                + "; ".join(error.partition(": ")[2] for error in errors[:LOG_TAIL_LINES])
                + ". Where an address is in use, end the program that has it or choose another port"
            )

    def _log_tail(self) -> str:
        lines: list[str] = []
        for path in (self.folder / "stderr.log", self.log):
            if path.exists():
                lines += path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "Its log ends: " + "\n".join(lines) if lines else f"It wrote no log in {self.folder}."

    def _give_away(self) -> None:
        """Hand the run folder to the user Asterisk runs as; nobody else can look into it."""
        for base, folders, files in os.walk(self.folder):
            for name in (*folders, *files):
                os.chown(os.path.join(base, name), ASTERISK_ID, ASTERISK_ID, follow_symlinks=False)
        os.chown(self.folder, ASTERISK_ID, ASTERISK_ID)
        self.folder.chmod(0o700)


def _refuse_unwritable(name: str, value: str) -> None:
    # A line end, a semicolon or a bracket would be read as another setting.
    if not _PLAIN_VALUE.fullmatch(value):
        raise ValueError(f"{name}: has a character that cannot stand in Asterisk's configuration, or is empty")


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
