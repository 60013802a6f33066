"""CPU of a real call, Asterisk and gateway together, against the same questions asked by Asterisk's dialplan alone.

Fifty calls at once by SIPp, about ten seconds each; this is the one benchmark that takes most of a minute.
"""

import asyncio
import os
import socket
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.calling import call
from bench.result import Result
from bench.serving import (
    HOUSE,
    Served,
    ami_secret,
    changes_in,
    free_port,
    number_of,
    our_gateway,
    silent_clips,
)
from gateway.asterisk import AsteriskSettings, RunningAsterisk, asterisk_root

CALLS = 50
ROUNDS = 2
KEYS = ("1", "1")
GOAL = 1.10
OURS, PLAIN = "800000100", "800000199"
SCENARIO = HOUSE / "tests" / "e2e" / "sipp" / "crowd.xml"
# A call of the scenario takes ten seconds; beyond this SIPp hangs.
SIPP_S = 90
# Hang-up handlers and the last rows of the call log.
SETTLES_S = 1.0


def measure() -> Result:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        # Asterisk runs as a user of its own, which has to reach the clips.
        Path(folder).chmod(0o755)
        ours, plain = asyncio.run(_compare(Path(folder)))
    return Result(
        "calls",
        f"CPU of Asterisk and our gateway for a real call, {CALLS} at once",
        "Asterisk asking the same questions from its dialplan alone, with no change made",
        ours * 1e3,
        plain * 1e3,
        "ms",
        GOAL,
        "lower",
    )


async def _compare(folder: Path) -> tuple[float, float]:
    sounds = folder / "sounds"
    await asyncio.to_thread(silent_clips, sounds)
    agi_port, ami_port = free_port(), free_port()
    rtp_first = 20_000 + agi_port % 1_000 * 40
    settings = AsteriskSettings(
        numbers=(OURS, PLAIN),
        sounds=sounds,
        ami_secret=ami_secret(folder),
        sip_port=_free_udp_port(),
        websocket_port=free_port(),
        ami_port=ami_port,
        gateways=(f"127.0.0.1:{agi_port}", f"127.0.0.1:{free_port()}"),
        rtp_first=rtp_first,
        rtp_last=rtp_first + 399,
    )
    spent: dict[str, list[float]] = {OURS: [], PLAIN: []}
    pupils = ROUNDS * CALLS + 1
    root = await asterisk_root(get=True)
    async with (
        RunningAsterisk(settings, folder / "asterisk", root) as pbx,
        our_gateway(folder, pupils, port=agi_port, ami_port=ami_port) as gateway,
    ):
        last = pupils - 1
        commands = (await call(agi_port, KEYS, caller=number_of(last), number=last)).commands
        await _ask_from_dialplan(pbx, commands)
        asterisk = await asyncio.to_thread(_asterisk_pid, pbx.folder)
        for number in range(ROUNDS):
            for dialled in (OURS, PLAIN):
                before = _cpu_s(asterisk, gateway)
                await _fifty_calls(folder, settings.sip_port, dialled, number)
                spent[dialled].append((_cpu_s(asterisk, gateway) - before) / CALLS)
    made = changes_in(folder)
    assert made == pupils, f"{made} changes were made by {pupils} calls"
    return statistics.median(spent[OURS]), statistics.median(spent[PLAIN])


async def _ask_from_dialplan(pbx: RunningAsterisk, commands: Sequence[str]) -> None:
    """Let another number ask what our gateway asked, with the same clips, in Asterisk's own words."""
    questions = [line.split('"')[1] for line in commands if line.startswith("EXEC Read")]
    steps = ["Set(TIMEOUT(response)=5)", "Set(TIMEOUT(digit)=2)", "Answer()", *(f"Read({each})" for each in questions)]
    lines = ["", "[numbers](+)", f"exten => {PLAIN},1,Goto(plain,s,1)", "[plain]", f"exten => s,1,{steps[0]}"]
    lines += [f" same => n,{step}" for step in (*steps[1:], "Hangup()")]
    extensions = pbx.folder / "etc" / "extensions.conf"
    text = await asyncio.to_thread(extensions.read_text)
    kept = [line for line in text.splitlines() if not line.startswith(f"exten => {PLAIN},")]
    await asyncio.to_thread(extensions.write_text, "\n".join([*kept, *lines]) + "\n")
    await pbx.command("dialplan reload")
    shown = await pbx.command(f"dialplan show {PLAIN}@numbers")
    assert "Goto(plain" in shown, shown


async def _fifty_calls(folder: Path, sip_port: int, dialled: str, number: int) -> None:
    numbers = folder / "numbers.csv"
    pupils = range(number * CALLS, (number + 1) * CALLS)
    await asyncio.to_thread(numbers.write_text, "\n".join(["SEQUENTIAL", *map(number_of, pupils)]) + "\n")
    process = await asyncio.create_subprocess_exec(
        *("sipp", "-sf", str(SCENARIO), f"127.0.0.1:{sip_port}", "-s", dialled, "-inf", str(numbers)),
        *("-i", "127.0.0.1", "-p", str(_free_udp_port()), "-mp", str(_free_udp_port()), "-nostdin"),
        *("-m", str(CALLS), "-l", str(CALLS), "-r", "25", "-timeout", str(SIPP_S), "-timeout_error"),
        *("-key", "first", KEYS[0], "-key", "second", KEYS[1]),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=folder,
    )
    assert await process.wait() == 0, f"not every call to {dialled} went well"
    await asyncio.sleep(SETTLES_S)


def _cpu_s(asterisk: int, gateway: Served) -> float:
    # The process's own count: Asterisk gives each call a thread, whose own count ends with it.
    fields = Path(f"/proc/{asterisk}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK") + gateway.cpu_s()


def _asterisk_pid(folder: Path) -> int:
    for place in Path("/proc").glob("[0-9]*"):
        # Other processes may end while we look.
        try:
            name, mounts = (place / "comm").read_text().strip(), (place / "mountinfo").read_text()
        except OSError:
            continue
        if name == "asterisk" and str(folder) in mounts:
            return int(place.name)
    raise AssertionError(f"no Asterisk runs in {folder}")


def _free_udp_port() -> int:
    """An even one, fit for RTP too."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port % 2 == 0:
            return port
