"""The actor's shell: owns the socket, the journals, the engine, the clock and the tasks, and carries out what the actor
decides, in its order: what is to be written is written before what is to be sent after it.

Everything runs on one event loop. The engine alone is built in a thread of its own, so that frontends are answered from
the first moment on (phase `loading`) and a long load never looks like death.
"""

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from engine_worker.actor import Actor
from engine_worker.bursts import Bursts
from engine_worker.config import EXIT_BUILD_FAILED, EXIT_ENGINE_DIED, EXIT_NO_JOURNAL, Settings
from engine_worker.engines.interface import Engine, EngineLoad, OnDead, Turn, TurnRejected
from engine_worker.journal_dirs import JournalFile, JournalOwner
from engine_worker.journal_files import JournalFiles
from engine_worker.listening import listening
from engine_worker.mailbox import (
    AbortTurn,
    DrainRequested,
    Effect,
    Emitted,
    EngineFailed,
    EngineHangs,
    EngineReady,
    FlushDue,
    FlushSoon,
    Input,
    JournalFailed,
    JournalSynced,
    Note,
    Received,
    RecordFailed,
    Recovered,
    ReplayDue,
    ReplayIn,
    Send,
    SendFailed,
    StartTurn,
    Stop,
    StopRequested,
    SyncJournal,
    Ticked,
    TookOver,
    TurnQueued,
    TurnRefused,
    UnlinkJournal,
    WriteJournal,
)
from engine_worker.takeover import Takeover
from protocol.channel import ChannelLimits, Sent, WorkerChannel
from protocol.codec import BadFrame, decode_command, encode_report
from protocol.records import ErrorDetail

logger = logging.getLogger(__name__)

Build = Callable[[asyncio.AbstractEventLoop, OnDead], Engine]
"""Builds the engine; called in a thread and may take minutes. Raises whatever the engine does."""

_START_FAILED = ErrorDetail(
    "server_error", "internal_error", "The engine failed on this request; see the worker's log."
)
_LOADING_LINE_S = 5.0
"""How often the log says that the model is still loading."""
_PARTING_S = 0.1
"""How long the last messages get to leave the socket: ZeroMQ does not say when they have."""
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}


class Worker:
    """One worker named `worker` in the run directory; `await run()` is its whole life.

    Raises `JournalUnavailable` when another process holds its journals, `BadCurveKeys`, and `CannotBind`.
    """

    def __init__(self, settings: Settings, worker: str, build: Build) -> None:
        self.incarnation = secrets.token_hex(8)
        self._settings = settings
        self._name = worker
        self._listening = listening(settings, worker)
        self._journals = JournalFiles(settings, worker)
        self._build = build
        self._actor = Actor(settings, worker, self.incarnation)
        self._inbox: deque[Input] = deque()
        self._bursts = Bursts(settings.coalesce_s, self._end_burst)
        self._is_handling = False
        self._one_a_pass = asyncio.Lock()
        """Turns start in one pass of the loop each, lest a burst of requests hold up the streams that run."""
        self._engine: Engine | None = None
        self._takeover: Takeover | None = None  # From the moment on that there is an engine.
        self._begun_at = self._line_at = time.monotonic()
        self._stopped = asyncio.Event()
        self._drain_requested = False
        self._exit_code = 0

    def __repr__(self) -> str:
        return f"<Worker {self._listening.endpoint} {self.incarnation}: {self._actor!r}>"

    async def run(self) -> int:
        """Serve until drained, stopped, or left without an engine; returns the process's exit code."""
        self._loop = asyncio.get_running_loop()
        limits = ChannelLimits(
            frame_bytes_max=self._settings.frame_bytes_max, queue_frames_max=self._settings.queue_frames_max
        )
        # Before anybody can ask: what is in a journal is never called unknown.
        self._handle(Recovered(self._journals.read_all(), time.time()))
        self._channel = WorkerChannel(self._listening.endpoint, limits, self._on_frame, self._listening.keys)
        threading.Thread(target=self._build_engine, name="build engine", daemon=True).start()
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._tasks.create_task(self._tick())
                await self._stopped.wait()
                raise _Stopped  # The way to end a task group: it cancels the tick and all turns that are starting.
        except* _Stopped:
            await self._part()
        finally:
            self._channel.close()
            self._journals.close()
        return self._exit_code

    def drain(self) -> None:
        """Take no new work, let live responses finish for `drain_s`, then end; called again: end now."""
        if self._drain_requested:
            self.stop("told twice to end")
        else:
            logger.info("draining")
            self._drain_requested = True
            self._leave_others_alone()
            self._handle(DrainRequested())

    def stop(self, reason: str, exit_code: int = 0) -> None:
        """End now: frontends are told, live responses are lost."""
        if not self._stopped.is_set():
            self._exit_code = exit_code
            self._handle(StopRequested(reason))

    def _handle(self, message: Input) -> None:
        """Have the actor take this in, once all effects of what it is taking in now are carried out.

        In the midst of them it would put its own before the rest: journals and readers would get records out of order.
        """
        self._take_emitted()
        self._inbox.append(message)
        self._work_off()

    def _take_emitted(self) -> None:
        """Put what the engine has handed over before what comes now."""
        if emitted := self._bursts.take():
            self._inbox.append(Emitted(emitted))

    def _end_burst(self) -> None:
        self._take_emitted()
        self._work_off()

    def _work_off(self) -> None:
        if self._is_handling:
            return
        self._is_handling = True
        try:
            while self._inbox:
                self._handle_next(self._inbox.popleft())
        finally:
            self._is_handling = False

    def _handle_next(self, message: Input) -> None:
        if self._stopped.is_set():
            return
        try:
            effects = self._actor.handle(message, self._loop.time())
        except Exception:
            # Nothing of the message's content: prompts don't belong into logs.
            response_id = getattr(message, "response_id", "")
            logger.exception("the actor failed on %s %s", type(message).__name__, response_id)
            return
        for effect in effects:
            self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send():
                self._send(effect)
            case WriteJournal() | SyncJournal() | UnlinkJournal():
                self._journal(effect)
            case FlushSoon():
                self._loop.call_soon(self._handle, FlushDue())
            case ReplayIn(delay_s):
                self._loop.call_later(delay_s, self._handle, ReplayDue())
            case StartTurn(turn):
                self._tasks.create_task(self._start_turn(turn))
            case AbortTurn(response_id):
                self._abort_turn(response_id)
            case EngineHangs(reason):
                self._on_engine_died(reason)
            case Note() | RecordFailed():
                _log(effect)
            case Stop(reason):
                logger.info("ending: %s", reason)
                self._stopped.set()
                self._leave_others_alone()
                self._journals.close()  # Now, and not when the engine is closed: a worker may be waiting to go on.

    def _send(self, effect: Send) -> None:
        outcome = self._channel.send(effect.address, encode_report(effect.report))
        if outcome is not Sent.OK:
            self._handle(SendFailed(effect.address, effect.report, full=outcome is Sent.FULL))

    def _journal(self, effect: WriteJournal | SyncJournal | UnlinkJournal) -> None:
        try:
            match effect:
                case WriteJournal():
                    self._journals.write(effect)
                case SyncJournal():
                    self._tasks.create_task(self._sync_journal(effect))
                case UnlinkJournal(response_id, volatile):
                    self._journals.unlink(response_id, volatile=volatile)
        except OSError as error:
            self._handle(JournalFailed(effect.response_id, str(error)))

    async def _sync_journal(self, effect: SyncJournal) -> None:
        try:
            await asyncio.to_thread(self._journals.sync, effect.response_id, volatile=effect.volatile)
        except OSError as error:
            self._handle(JournalFailed(effect.response_id, str(error)))
        else:
            self._handle(JournalSynced(effect.response_id))

    def _on_frame(self, peer: bytes, frame: bytes) -> None:
        try:
            addressed = decode_command(frame)
        except BadFrame as error:
            logger.warning("refused a frame of %d bytes from peer %r: %s", len(frame), peer, error)
        else:
            self._handle(Received(peer, addressed))

    def _leave_others_alone(self) -> None:
        if self._takeover is not None:
            self._takeover.close()

    async def _tick(self) -> None:
        while True:
            if self._takeover is not None:
                self._takeover.look()
            load = EngineLoad() if self._engine is None else self._engine.load()
            self._handle(Ticked(load, time.time()))
            if self._engine is None and time.monotonic() - self._line_at >= _LOADING_LINE_S:
                self._line_at = time.monotonic()
                logger.info("loading ... %.0f s", self._line_at - self._begun_at)
            await asyncio.sleep(self._settings.heartbeat_interval_s)

    async def _start_turn(self, turn: Turn) -> None:
        assert self._engine is not None  # The actor starts no turn before it was told `EngineReady`.
        async with self._one_a_pass:
            await asyncio.sleep(0)
        try:
            await self._engine.start_turn(turn, self._bursts.add)
        except TurnRejected as rejection:
            self._handle(TurnRefused(turn.response_id, rejection.error))
        except Exception:
            logger.exception("response %s, turn %d: the engine failed to start it", turn.response_id, turn.turn)
            self._handle(TurnRefused(turn.response_id, _START_FAILED))
        else:
            self._handle(TurnQueued(turn.response_id))

    def _abort_turn(self, response_id: str) -> None:
        if self._engine is not None:
            self._engine.abort(response_id)

    def _build_engine(self) -> None:
        """Runs in the building thread."""
        try:
            engine = self._build(self._loop, self._on_dead)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a foreign engine raises, it can't be built
            self._on_loop(partial(self._on_build_failed, error))
        else:
            self._on_loop(partial(self._on_built, engine))

    def _on_built(self, engine: Engine) -> None:
        if self._stopped.is_set():
            return
        self._engine = engine
        try:
            self._journals.belong_to(JournalOwner(engine.fingerprint, self.incarnation))
        except OSError as error:
            logger.error("the journals' lock file can't be written: %s", error)
            self.stop("it can't have its journals", EXIT_NO_JOURNAL)
            return
        self._takeover = Takeover(self._settings, self._name, engine.fingerprint, self._take_in)
        self._tasks.create_task(self._become_ready(engine, self._takeover))

    async def _become_ready(self, engine: Engine, takeover: Takeover) -> None:
        """Have first what no worker holds: what was ever told of is not called unknown by a worker that is ready."""
        if self._drain_requested:
            takeover.close()
        await takeover.sweep()
        names = ", ".join(card.name for card in engine.models)
        logger.info("ready: model %s in %.1f s", names, time.monotonic() - self._begun_at)
        self._handle(EngineReady(engine.models))

    def _take_in(self, worker: str, files: list[JournalFile], dead: str) -> None:
        moved = tuple(file.journal for file in files if self._journals.move_in(file))
        self._handle(TookOver(worker, moved, time.time(), dead))

    def _on_build_failed(self, error: BaseException) -> None:
        trace = None if isinstance(error, SystemExit) else error  # A parser that exits has said why already.
        logger.error("the engine can't be built: %s", error, exc_info=trace)
        self.stop("the engine can't be built", EXIT_BUILD_FAILED)

    def _on_dead(self, reason: str) -> None:
        """The engine's `on_dead`: from any thread."""
        self._on_loop(partial(self._on_engine_died, reason))

    def _on_engine_died(self, reason: str) -> None:
        logger.error("the engine died: %s", reason)
        if not self._stopped.is_set():
            self._exit_code = EXIT_ENGINE_DIED
            load = EngineLoad() if self._engine is None else self._engine.load()
            self._handle(EngineFailed(f"the engine died: {reason}", load))

    def _on_loop(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody is left to be told.
            self._loop.call_soon_threadsafe(call)

    async def _part(self) -> None:
        await asyncio.sleep(_PARTING_S)
        if self._engine is not None and self._exit_code == 0:  # A dead engine is ended with its process group.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.engine_close_s):
                    await self._engine.close()


def _log(effect: Note | RecordFailed) -> None:
    match effect:
        case Note(level, text):
            logger.log(_LEVELS[level], "%s", text)
        case RecordFailed(response_id, error):
            logger.error("the actor failed on a record of %s", response_id, exc_info=error)


class _Stopped(Exception):
    """Ends the task group of a worker that is to stop."""
