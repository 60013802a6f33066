"""`mensa asterisk`: the configuration of the Asterisk that answers the operator's line."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer

from gateway.asterisk import SOCKET_PATH_MAX_BYTES, Trunk, link_data, render
from gateway.cli_options import CONFIG, ConfigOption, TownOption, fail, load_or_exit, narrowed
from gateway.files.load import Configuration
from gateway.files.mistakes import shown
from gateway.installation import asterisk_settings

asterisk_app = typer.Typer()

# Production hears the operator from outside; who may call is said by the trunk's addresses.
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104
NOTHING_WRITTEN = "nothing was written"


@asterisk_app.command()
def asterisk(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Asterisk's own folder: configuration, log, control socket.")
    ],
    host: Annotated[str | None, typer.Option("--trunk-host", metavar="HOST", help="The operator's SIP server.")] = None,
    addresses: Annotated[
        list[str] | None,
        typer.Option("--trunk-address", metavar="ADDRESS", help="An address or network that calls come from; repeat."),
    ] = None,
    username: Annotated[
        str, typer.Option("--trunk-username", metavar="NAME", help="To register; not where we are known by address.")
    ] = "",
    password_file: Annotated[
        Path | None,
        typer.Option("--trunk-password-file", metavar="FILE", help="Holds the password of --trunk-username."),
    ] = None,
    external_address: Annotated[
        str,
        typer.Option(
            "--external-address", metavar="ADDRESS", help="This machine as the operator sees it, behind a router."
        ),
    ] = "",
    sip_address: Annotated[
        str, typer.Option("--sip-address", metavar="ADDRESS", help="The address of this machine to answer on.")
    ] = EVERY_ADDRESS,
    config: ConfigOption = CONFIG,
    town: TownOption = None,
) -> None:
    """Write Asterisk's configuration for production: every town's numbers, calls from the operator's trunk alone."""
    configuration = narrowed(load_or_exit(config), town)
    place = folder.absolute()
    _refuse_what_would_be_deaf(configuration, place)
    if not host or not addresses:
        fail(
            f"asterisk: no trunk is named; expected --trunk-host and --trunk-address, since production takes calls from "
            f"the operator alone (make run rehearses without); {NOTHING_WRITTEN}"
        )
    if bool(username) != (password_file is not None):
        fail(f"asterisk: --trunk-username and --trunk-password-file go together; {NOTHING_WRITTEN}")
    try:
        password = "" if password_file is None else password_file.read_text(encoding="utf-8").strip()
        trunk = Trunk(host, tuple(addresses), username, password, external_address)
        settings = dataclasses.replace(asterisk_settings(configuration), sip_address=sip_address, trunk=trunk)
    except UnicodeDecodeError:
        fail(f"--trunk-password-file: {password_file} is no UTF-8 text; {NOTHING_WRITTEN}")
    except (OSError, ValueError) as error:
        fail(f"asterisk: {error}; {NOTHING_WRITTEN}")
    try:
        render(settings, place)
        link_data(place, settings.sounds, Path("/"))
    except OSError as error:
        fail(f"DIR: {error.filename} cannot be written ({error.strerror}); expected a folder of this user")
    for file in sorted((place / "etc").iterdir()):
        typer.echo(file)
    if not (place / "data" / "documentation").is_dir():
        typer.echo(
            f"{place}/data/documentation: Asterisk's XML documentation is not on this machine, and SIP does not load "
            "without it; install Asterisk 22 and run this again",
            err=True,
        )
    typer.echo(
        "Next, each time this was run: give the folder to the user that Asterisk runs as, then start it.\n"
        f"  chown -R asterisk: {place}\n"
        f"  asterisk -f -U asterisk -C {place}/etc/asterisk.conf\n"
        f"  mensa serve --config {configuration.folder}",
        err=True,
    )


def _refuse_what_would_be_deaf(configuration: Configuration, place: Path) -> None:
    """What Asterisk or the gateway could not be reached by, once written down."""
    if configuration.broken:
        keys = ", ".join(sorted(configuration.broken))
        fail(f"asterisk: the mistakes above keep {keys} out, whose numbers nobody would answer; {NOTHING_WRITTEN}")
    settings = configuration.settings
    for name, port in (("agi", settings.agi.port), ("ami", settings.ami.port), ("sip", settings.sip.port)):
        if port == 0:
            fail(f"{name}.port: 0 is a new port at each start; expected one that both sides know; {NOTHING_WRITTEN}")
    if any(not (each.isalnum() or each in "/._-+") for each in str(place)):
        fail(f"DIR: {shown(str(place))} cannot stand in Asterisk's configuration; expected letters, digits and /._-+")
    if len(os.fsencode(place / "run" / "asterisk.ctl")) > SOCKET_PATH_MAX_BYTES:
        fail(f"DIR: {place} is too long a path for Asterisk's control socket; expected a shorter one")
