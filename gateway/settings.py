"""The gateway's own settings: doors, database, limits. `gateway.yaml` gives them, the environment beats it, all have defaults.

`MENSA_AGI__PORT=4574` in the environment is `agi: {port: 4574}` in the file. Secrets stand in files of mode 0600 beside the
database, never in either. What belongs to one municipality stands in its own folder.
"""

from email.errors import MessageError
from email.headerregistry import Address
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

ENVIRONMENT_PREFIX = "MENSA_"
ENVIRONMENT_DELIMITER = "__"


def _no_line_ends(value: object) -> object:
    if isinstance(value, str) and (not value.strip() or not value.isprintable()):
        raise ValueError(f"{value[:60]!r} is no text on one line; expected one without control characters")
    return value


def _mail_address(value: object) -> object:
    try:
        return Address(addr_spec=value if isinstance(value, str) else "").addr_spec
    except (MessageError, ValueError, IndexError):
        raise ValueError(f"{value!r} is no mail address; expected one as mensa@example.org") from None


Port = Annotated[int, Field(ge=0, le=65_535, description="0 takes any free port")]
Word = Annotated[str, BeforeValidator(_no_line_ends), WithJsonSchema({"type": "string", "minLength": 1})]
MailAddress = Annotated[
    str, BeforeValidator(_mail_address), WithJsonSchema({"type": "string", "pattern": r"^\S+@\S+$"})
]
Seconds = Annotated[float, Field(gt=0, le=3_600)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AgiSettings(Section):
    """The door that Asterisk calls through: FastAGI, `agi://HOST:PORT/line`."""

    host: Word = Field(
        "127.0.0.1", description="FastAGI has no authentication: keep it on loopback or a closed network"
    )
    port: Port = 4573
    sessions_max: int = Field(
        1_000, ge=1, le=20_000, description="Calls at once; above it Asterisk tries the next gateway"
    )


class AmiSettings(Section):
    """The link on which Asterisk tells of its calls."""

    enabled: bool = True
    host: Word = "127.0.0.1"
    port: Port = 5038
    user: Word = "mensa"
    secret_file: Path = Field(Path("ami.secret"), description="Relative to the folder of secrets")


class SipSettings(Section):
    """Where the Asterisk that `make run` starts listens; a production Asterisk has its own configuration."""

    host: Word = "127.0.0.1"
    port: Port = 5060
    websocket_port: Port = 8088
    rtp_first: Port = Field(10_000, description="The first of the ports that carry sound, two for each call")
    rtp_last: Port = 10_999
    calls_max: int = Field(200, ge=1, le=5_000, description="Calls at once; the next one is told that the line is busy")


class WebSettings(Section):
    """/health, /ready, /metrics."""

    host: Word = "127.0.0.1"
    port: Port = 8080


class ClockSettings(Section):
    """Whom the measured clock asks besides the kernel and this machine's chrony (R10)."""

    servers: tuple[Word, ...] = Field((), max_length=8, description="NTP servers, as `host` or `host:port`")
    chronyc_options: tuple[Word, ...] = Field((), max_length=8, description="Options for chronyc, as `-h`, `127.0.0.1`")


class DatabaseSettings(Section):
    url: Word = Field(
        "sqlite:///var/mensa.db",
        description=(
            "sqlite:///PATH, relative to the folder that holds this configuration folder, for one gateway; "
            "postgresql://USER@HOST:PORT/NAME for any number; its password stands in ~/.pgpass or the file PGPASSFILE names"
        ),
    )


class MailSettings(Section):
    """How the kitchens' orders leave this machine: by a mail server or into a folder. With neither they wait."""

    host: Word | None = Field(None, description="The mail server that takes the orders, as `smtp.example.org`")
    port: Port = Field(587, description="Usual are 587 with starttls, 465 with tls, 25 with none")
    security: Literal["none", "starttls", "tls"] = "starttls"
    ca_file: Path | None = Field(
        None, description="The server's own authority, where this machine does not know it; relative as the database's"
    )
    sender: MailAddress | None = Field(None, description="Whom the orders come from, as mensa@example.org")
    user: Word | None = Field(None, description="Without it nobody signs in")
    password_file: Path = Field(Path("mail.password"), description="Relative to the folder of secrets")
    # A greylisting or overloaded server answers within half a minute; RFC 5321's minutes would hold up the next order.
    timeout_s: float = Field(30, gt=0, le=60, description="How long one answer of the server may take")
    # Mail servers slow down who comes with more connections at once.
    together: int = Field(4, ge=1, le=50, description="Orders at once")
    folder: Path | None = Field(
        None, description="A folder that orders are written into instead, relative as the database's"
    )

    @model_validator(mode="after")
    def _has_a_sender(self) -> "MailSettings":
        if self.host is not None and self.sender is None:
            raise ValueError("there is a host and no sender; expected sender: an address that the server lets us use")
        if self.user is not None and self.security == "none":
            raise ValueError("user would sign in over a line that anybody can read; expected security: starttls or tls")
        return self


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    json_lines: bool | None = Field(
        None, description="One JSON object a line; by default where no terminal reads along"
    )


class DrainSettings(Section):
    # A parent in the middle of a call gets to its end; a call that lasts longer is told what holds by the dialplan.
    seconds: Seconds = Field(60, description="How long calls may go on after SIGTERM")


class SettingsFile(Section):
    """gateway.yaml, without the environment."""

    database: DatabaseSettings = DatabaseSettings()
    secrets: Path = Field(Path("var/secrets"), description="The folder of the files that hold secrets, mode 0700")
    sounds: Path | None = Field(None, description="The folder of the clips; by default this installation's own")
    agi: AgiSettings = AgiSettings()
    ami: AmiSettings = AmiSettings()
    sip: SipSettings = SipSettings()
    web: WebSettings = WebSettings()
    clock: ClockSettings = ClockSettings()
    mail: MailSettings = MailSettings()
    log: LogSettings = LogSettings()
    drain: DrainSettings = DrainSettings()


class Settings(BaseSettings, SettingsFile):
    """All settings; frozen. The environment is read when one is made, and beats what is passed in."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter=ENVIRONMENT_DELIMITER,
        extra="forbid",
        frozen=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the file; no .env file, which nobody would look for."""
        return env_settings, init_settings


def environment_name(way: tuple[str | int, ...]) -> str:
    """The name that the setting at the end of `way` has in the environment."""
    return ENVIRONMENT_PREFIX + ENVIRONMENT_DELIMITER.join(str(step) for step in way).upper()
