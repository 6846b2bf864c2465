"""The engine worker's settings, how they cross to the actor process, and the exit codes the two processes agree on."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from protocol.endpoints import listening_endpoint
from protocol.settings import BadSetting

MIB = 2**20

EXIT_ENGINE_DIED = 70
"""The actor's exit code when its engine can't go on: the supervisor starts another (EX_SOFTWARE)."""
EXIT_CANT_LISTEN = 69
"""The actor's exit code when it can't listen for frontends: a port is taken, a key is missing (EX_UNAVAILABLE)."""
EXIT_NO_JOURNAL = 74
"""The actor's exit code when it can't have its journals: another process holds them, or the disk fails (EX_IOERR)."""
EXIT_BUILD_FAILED = 78
"""The actor's exit code when the engine can't be built: a bad flag or a bad model, as a rule (EX_CONFIG)."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Run an engine worker: a supervisor, the actor it keeps alive, and the engine inside. Any other flag is the
    engine's own (`--tensor-parallel-size 2`)."""

    engine: Annotated[
        Literal["vllm", "scripted"], Meta(description="which engine to run; `scripted` is for tests and planning")
    ] = "vllm"
    model: Annotated[str, Meta(description="model to serve, passed on to the engine; empty: the engine's default")] = ""
    engine_args: Annotated[
        str, Meta(description="more arguments for the engine, split as a shell does, before those on the command line")
    ] = ""
    outgoing_allow: Annotated[
        str, Meta(description="networks that are not public and may be asked for images all the same: `10.0.0.0/8,::1`")
    ] = ""
    run_dir: Annotated[
        Path, Meta(description="private directory (mode 0700) in which frontends and workers meet; made if absent")
    ] = Path(".holdfast/run")
    listen: Annotated[
        str,
        Meta(
            description="address for frontends on other hosts, instead of the socket in the run directory:"
            " `tcp://0.0.0.0:5600`; the second worker of a host takes the next port, and so on"
        ),
    ] = ""
    curve_dir: Annotated[Path, Meta(description="directory of the keys for tcp (`python -m protocol.curve_keys`)")] = (
        Path(".holdfast/curve")
    )
    allow_plain_tcp: Annotated[
        bool, Meta(description="go without where there is no key: everybody who reaches the port reads and writes all")
    ] = False
    journal_dir: Annotated[
        str, Meta(description="directory for the responses' journals; empty: `journal` in the run directory")
    ] = ""
    journal_volatile_dir: Annotated[
        str, Meta(description="one without a disk, for `store: false`; empty: a user's own below /dev/shm")
    ] = ""
    journal_sync: Annotated[
        Literal["never", "always"],
        Meta(description="whether each write waits for the disk (fdatasync), so that a power cut loses nothing"),
    ] = "never"

    heartbeat_interval_s: Annotated[
        float, Meta(gt=0, description="seconds between two Status reports, and between two looks at every timer")
    ] = 0.5
    frontend_lost_after_s: Annotated[
        float, Meta(gt=0, description="a frontend silent for so many seconds is lost: its readers and ownerships go")
    ] = 2.0
    disconnect_grace_s: Annotated[
        float, Meta(ge=0, description="seconds a live response goes on without any client before it is cancelled")
    ] = 30.0
    resume_window_s: Annotated[
        float, Meta(ge=0, description="seconds a closed response's log is kept for readers to come back to")
    ] = 300.0
    released_window_s: Annotated[
        float, Meta(ge=0, description="seconds a closed response's log is kept once it is stored, if nobody reads it")
    ] = 30.0
    progress_interval_s: Annotated[
        float, Meta(gt=0, description="seconds of silence after which a live response gets a Progress record")
    ] = 60.0
    drain_s: Annotated[
        float,
        Meta(ge=0, description="seconds that live responses get to finish after SIGTERM; others go on with the rest"),
    ] = 10.0
    engine_hang_after_s: Annotated[
        float,
        Meta(gt=0, description="an engine with work that neither steps nor answers for so many seconds is ended"),
    ] = 60.0
    actor_hang_after_s: Annotated[
        float, Meta(gt=0, description="a loaded worker whose event loop stands still for so many seconds is killed")
    ] = 10.0
    engine_close_s: Annotated[
        float, Meta(ge=0, description="seconds the engine gets to close in order before its processes are killed")
    ] = 10.0

    queue_requests_max: Annotated[
        int, Meta(gt=0, description="requests without a first token yet; beyond it new ones are answered 429")
    ] = 1000
    queue_tokens_max: Annotated[
        int, Meta(gt=0, description="their prompts' tokens; beyond it too, but for one request alone")
    ] = 4_000_000
    retry_after_max_s: Annotated[
        int, Meta(gt=0, description="the longest `Retry-After`, in seconds, that those are answered with")
    ] = 60
    log_bytes_max: Annotated[
        int, Meta(gt=0, description="memory for response logs; beyond it closed ones go, then new work is refused")
    ] = 1024 * MIB
    responses_max: Annotated[
        int,
        Meta(gt=0, description="responses kept, live and closed; beyond it closed ones go, then new work is refused"),
    ] = 10_000
    journal_bytes_max: Annotated[
        int, Meta(gt=0, description="bytes of journal files; beyond it closed ones go, then new work is refused")
    ] = 2048 * MIB
    journal_files_max: Annotated[
        int, Meta(gt=0, description="journal files held open; those of further responses are opened for each write")
    ] = 4096
    journal_wait_s: Annotated[
        float, Meta(ge=0, description="seconds without new work after a journal could not be written (a full disk)")
    ] = 10.0
    journal_lock_wait_s: Annotated[
        float, Meta(ge=0, description="seconds to wait at the start for a worker that is just taking the journals over")
    ] = 20.0
    engine_deaths_max: Annotated[
        int, Meta(gt=0, description="engine deaths a turn may be running in; then it is failed, as their likely cause")
    ] = 2
    worker_deaths_max: Annotated[
        int,
        Meta(
            gt=0, description="deaths of whole processes in a row in which a turn gets no step; then it is failed too"
        ),
    ] = 4
    coalesce_s: Annotated[
        float,
        Meta(
            ge=0,
            le=0.1,
            description="engine steps within so many seconds are journaled and published together; 0: each at once",
        ),
    ] = 0.0
    batch_records_max: Annotated[
        int, Meta(gt=0, description="records in one Records message; what is left follows in the next")
    ] = 1000
    batch_bytes_max: Annotated[
        int, Meta(gt=0, description="bytes of records in one Records message, beyond its first; the rest follows")
    ] = 256 * 1024
    replay_interval_s: Annotated[
        float, Meta(gt=0, description="seconds between two Records messages of a backlog, so that no queue is flooded")
    ] = 0.002
    frame_bytes_max: Annotated[
        int, Meta(gt=0, description="frames from a frontend larger than this are dropped and logged")
    ] = 64 * MIB
    queue_frames_max: Annotated[
        int, Meta(gt=0, description="messages queued per frontend and direction before it counts as a slow consumer")
    ] = 500
    log_lines_max: Annotated[
        int, Meta(gt=0, description="lines a second that one place in the code may log; the rest is counted")
    ] = 10

    workers_max: Annotated[int, Meta(gt=0, description="workers in one run directory; one more is refused")] = 64
    restart_max: Annotated[
        int, Meta(ge=0, description="restarts within restart_window_s; at one more the worker gives up")
    ] = 5
    restart_window_s: Annotated[float, Meta(gt=0, description="the window, in seconds, for restart_max")] = 300.0
    restart_backoff_s: Annotated[
        float, Meta(ge=0, description="seconds before the first restart in a window; doubled with each further one")
    ] = 0.2
    restart_backoff_max_s: Annotated[
        float, Meta(ge=0, description="the longest wait, in seconds, before a restart")
    ] = 10.0

    def __post_init__(self) -> None:
        """Raises `BadSetting` for an address that can't be one."""
        try:
            if self.listen:
                listening_endpoint(self.listen, slot=0)
        except ValueError as error:
            raise BadSetting(f"--listen (HOLDFAST_LISTEN): {error}") from error


class ActorSettings(Settings, frozen=True, kw_only=True):
    """What the supervisor starts; not for the command line."""

    worker: Annotated[str, Meta(description="the worker's name: its slot in the run directory")]
    supervisor: Annotated[int, Meta(description="process id of the supervisor; the actor ends when it is gone")]


def engine_arguments(settings: Settings, rest: list[str]) -> list[str]:
    """The engine's own arguments: the model, those of `engine_args`, then those left over from the command line."""
    model = ["--model", settings.model] if settings.model else []
    if settings.outgoing_allow and settings.engine == "vllm":
        model += ["--outgoing-allow", settings.outgoing_allow]
    return [*model, *shlex.split(settings.engine_args), *rest]


def as_flags(settings: Settings) -> list[str]:
    """The settings as command-line flags that `read_settings` turns into an equal struct."""
    return [
        f"--{field.name.replace('_', '-')}={getattr(settings, field.name)}"
        for field in msgspec.structs.fields(type(settings))
    ]
