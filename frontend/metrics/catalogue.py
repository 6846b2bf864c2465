"""Every metric there is. `docs/METRICS.md` has the same as a table (a test compares).

Names, units and `_total` are by https://prometheus.io/docs/practices/naming/.
"""

from typing import Final, Literal

import msgspec

Kind = Literal["counter", "gauge", "histogram"]


class Metric(msgspec.Struct, frozen=True):
    """One metric. `help` says what it counts and in which unit; `bounds` are a histogram's buckets, in ascending order.

    The values of every label come from our code or the operator's configuration, never from a client: else a client
    could make series without end.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def words(self) -> int:
        """How many numbers its value is: a histogram has a count a bucket, one for what is beyond, and the sum."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1


_WAITS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_SHORT_WAITS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

REQUESTS: Final = Metric(
    "holdfast_requests_total",
    "counter",
    "Requests, counted when their answer begins; `endpoint` is the route, or `none` where there is none.",
    ("method", "endpoint", "code"),
)
ANSWER_DELAY: Final = Metric(
    "holdfast_time_to_answer_seconds",
    "histogram",
    "From a request's arrival until its answer begins: with JSON all of it, with a stream its headers.",
    ("method", "endpoint"),
    _WAITS,
)
ERRORS: Final = Metric(
    "holdfast_error_answers_total",
    "counter",
    "Answers that are an error, by its code; `rate_limit_exceeded`: a key is beyond its limits. Health checks are left"
    " out.",
    ("code",),
)
STREAMS: Final = Metric("holdfast_streams", "gauge", "Streams that are being sent to clients now.")
STREAMS_ENDED: Final = Metric(
    "holdfast_streams_ended_total",
    "counter",
    "Streams that have ended, by the status of their response; `cut` where the client left or the frontend stopped.",
    ("status",),
)
RESUMES: Final = Metric(
    "holdfast_resumes_total",
    "counter",
    "Streams that were asked for by `GET`: after a broken connection, or to be read once more, from any cursor.",
)
FIRST_TOKEN: Final = Metric(
    "holdfast_time_to_first_token_seconds",
    "histogram",
    "From a create's arrival until the first of the model's output is with its reader, streamed or not.",
    ("model",),
    _WAITS,
)
EVENT_GAP: Final = Metric(
    "holdfast_inter_event_gap_seconds",
    "histogram",
    "Between two deliveries of output to the reader of a create, the end of the model's output included. "
    "Counted once a heartbeat, and when the response has ended.",
    ("model",),
    _SHORT_WAITS,
)
QUEUE_TIME: Final = Metric(
    "holdfast_queue_time_seconds",
    "histogram",
    "From a create's arrival until its log begins or, where it was seen waiting for the engine then, until it was last"
    " seen so; precise to a heartbeat.",
    ("model",),
    (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0),
)
TURNS: Final = Metric(
    "holdfast_turns_total",
    "counter",
    "Engine runs that have ended, by the reason: `stop`, `length`, `aborted`, `error`. The response's owner counts.",
    ("model", "reason"),
)
INPUT_TOKENS: Final = Metric(
    "holdfast_input_tokens_total", "counter", "Prompt tokens of the turns that have ended, cached ones too.", ("model",)
)
CACHED_TOKENS: Final = Metric(
    "holdfast_cached_tokens_total", "counter", "Of the input tokens, those that the prefix cache had.", ("model",)
)
OUTPUT_TOKENS: Final = Metric(
    "holdfast_output_tokens_total", "counter", "Tokens sampled in the turns that have ended.", ("model",)
)
REASONING_TOKENS: Final = Metric(
    "holdfast_reasoning_tokens_total", "counter", "Of the output tokens, those of reasoning.", ("model",)
)
ADOPTIONS: Final = Metric(
    "holdfast_adoptions_total", "counter", "Responses whose owner was lost, and that a process here owns since."
)
MOVES: Final = Metric(
    "holdfast_moves_total", "counter", "Readers that followed their response to a worker that took it over."
)
WORKERS_LOST: Final = Metric(
    "holdfast_workers_lost_total",
    "counter",
    "Workers that fell silent, ended or were replaced. Each serving process counts what it sees: divide by"
    " `holdfast_processes`.",
)
STORE_TIME: Final = Metric(
    "holdfast_store_transaction_seconds",
    "histogram",
    "How long transactions took, waiting for a connection or lock included; `mode` is `read`,"
    " `write`, or `bare` (emptying SQLite's write-ahead log).",
    ("mode",),
    _SHORT_WAITS,
)
STORE_ERRORS: Final = Metric(
    "holdfast_store_errors_total", "counter", "Transactions that failed because the store did not answer in time."
)
WEBHOOKS: Final = Metric(
    "holdfast_webhook_posts_total",
    "counter",
    "Webhooks posted: `delivered`, `retried` (it failed, and is due again) or `given_up`.",
    ("outcome",),
)
PROCESSES: Final = Metric(
    "holdfast_processes", "gauge", "Serving processes that live, of all frontends in the run directory."
)
PROCESS_STARTS: Final = Metric(
    "holdfast_process_starts_total",
    "counter",
    "Serving processes that were started; more than `holdfast_processes`: they were replaced.",
)
CPU: Final = Metric(
    "holdfast_cpu_seconds_total", "counter", "Processor time of the serving processes, user and system."
)
MEMORY: Final = Metric("holdfast_resident_memory_bytes", "gauge", "Resident memory of the serving processes.")
LOOP_LAG: Final = Metric(
    "holdfast_event_loop_lag_seconds",
    "histogram",
    "How much later than due the event loop comes to its heartbeat: what everything else in it waits, too.",
    (),
    _SHORT_WAITS,
)

COUNTED: Final = (
    *(REQUESTS, ANSWER_DELAY, ERRORS),
    *(STREAMS, STREAMS_ENDED, RESUMES),
    *(FIRST_TOKEN, EVENT_GAP, QUEUE_TIME),
    *(TURNS, INPUT_TOKENS, CACHED_TOKENS, OUTPUT_TOKENS, REASONING_TOKENS),
    *(ADOPTIONS, MOVES, WORKERS_LOST),
    *(STORE_TIME, STORE_ERRORS, WEBHOOKS),
    *(PROCESSES, PROCESS_STARTS, CPU, MEMORY, LOOP_LAG),
)
"""What serving processes count, each for itself; shown is the sum."""

WORKER_UP: Final = Metric(
    "holdfast_worker_up", "gauge", "Whether the worker is heard: 1, or 0 while it is lost.", ("worker",)
)
WORKER_PHASE: Final = Metric(
    "holdfast_worker_phase",
    "gauge",
    "1 for the phase that the worker is in: `loading`, `ready` or `draining`.",
    ("worker", "phase"),
)
WORKER_RUNNING: Final = Metric("holdfast_worker_running", "gauge", "Turns that the engine works on.", ("worker",))
WORKER_WAITING: Final = Metric("holdfast_worker_waiting", "gauge", "Turns that wait for the engine.", ("worker",))
WORKER_KV: Final = Metric(
    "holdfast_worker_kv_cache_usage_ratio",
    "gauge",
    "How much of the key-value cache is in use, from 0 to 1.",
    ("worker",),
)
WORKER_STEPS: Final = Metric(
    "holdfast_worker_engine_steps_total",
    "counter",
    "Engine steps since the worker's start; each reset of this counter is a restart.",
    ("worker",),
)
WORKER_PREFIX_QUERIES: Final = Metric(
    "holdfast_worker_prefix_cache_queried_tokens_total",
    "counter",
    "Prompt tokens looked up in the prefix cache.",
    ("worker",),
)
WORKER_PREFIX_HITS: Final = Metric(
    "holdfast_worker_prefix_cache_hit_tokens_total", "counter", "Of those, tokens that it had.", ("worker",)
)
WORKER_LOG: Final = Metric("holdfast_worker_log_bytes", "gauge", "Memory that the response logs take.", ("worker",))
WORKER_JOURNAL: Final = Metric(
    "holdfast_worker_journal_bytes", "gauge", "Bytes of the responses' journal files.", ("worker",)
)

REPORTED: Final = (
    *(WORKER_UP, WORKER_PHASE, WORKER_RUNNING, WORKER_WAITING, WORKER_KV, WORKER_STEPS),
    *(WORKER_PREFIX_QUERIES, WORKER_PREFIX_HITS, WORKER_LOG, WORKER_JOURNAL),
)
"""What workers report of themselves with each heartbeat; shown is what the process that is asked has heard last."""

CATALOGUE: Final = {metric.name: metric for metric in (*COUNTED, *REPORTED)}
