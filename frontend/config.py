"""The frontend's settings: one frozen struct, read once in `__main__` and passed down.

Every bound and timeout of this process stands here, with what happens past it. Flags and `HOLDFAST_*` variables derive
from the fields (`protocol.settings`).
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from frontend.api.request import UnknownFields
from frontend.webhook_endpoints import webhook_endpoint
from protocol.addresses import parse_networks
from protocol.endpoints import parse_workers
from protocol.records import Dialect
from protocol.settings import BadSetting


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Holdfast's frontend: HTTP and server-sent events in front of the engine workers of one run directory."""

    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="TCP port; several frontends may share it, 0 takes a free one")
    ] = 8000
    processes: Annotated[int, Meta(ge=1, le=256, description="serving processes below this one's arbiter")] = 1
    run_dir: Annotated[Path, Meta(description="directory in which the workers' sockets are found")] = Path(
        ".holdfast/run"
    )
    workers: Annotated[
        str,
        Meta(
            description="further workers, on any host: `gpu1.example:5600 gpu2.example:5600`; each address that a name"
            " resolves to is one"
        ),
    ] = ""
    workers_resolve_s: Annotated[
        float, Meta(gt=0, description="how often their names are resolved again; a name that can't be stays as it was")
    ] = 5.0
    worker_addresses_max: Annotated[
        int,
        Meta(ge=1, description="addresses that these names may have in all; those past it are not used, and logged"),
    ] = 256
    curve_dir: Annotated[
        Path, Meta(description="directory of the keys for those workers (`python -m protocol.curve_keys`)")
    ] = Path(".holdfast/curve")
    allow_plain_tcp: Annotated[
        bool, Meta(description="go without where there is no key: everybody in between reads and writes all")
    ] = False
    keys_file: Annotated[
        str,
        Meta(
            description="where the API keys are (`python -m frontend.keys`); empty: `keys.json` in the data directory"
        ),
    ] = ""
    keys_max: Annotated[int, Meta(ge=1, le=100_000, description="API keys there may be; one more is refused")] = 1000
    allow_open: Annotated[
        bool, Meta(description="serve without API keys also where others than this host can reach us")
    ] = False

    metrics_key: Annotated[
        str,
        Meta(description="name of the API key that may read `/metrics`, where keys are asked for; `*`: no key needed"),
    ] = ""

    heartbeat_interval_s: Annotated[
        float, Meta(gt=0, description="how often each worker hears from this frontend, and the run directory is read")
    ] = 0.5
    worker_lost_after_s: Annotated[
        float, Meta(gt=0, description="a worker silent for longer gets no new responses; its streams wait")
    ] = 2.0
    worker_wait_s: Annotated[
        float, Meta(gt=0, description="how long streams wait for a silent worker before they fail with `engine_lost`")
    ] = 60.0
    open_wait_s: Annotated[
        float, Meta(gt=0, description="how long a create waits for a worker to accept it before it is answered 503")
    ] = 60.0
    affinity_load_factor: Annotated[
        float,
        Meta(
            ge=0,
            description="how far above the mean load a worker that holds a prompt's beginning may be; 0 = any will do",
        ),
    ] = 1.25
    lookup_wait_s: Annotated[
        float, Meta(gt=0, description="how long the workers have to say whether they know a response; then 503")
    ] = 2.0

    keepalive_interval_s: Annotated[
        float, Meta(ge=0, description="silence after which a stream gets a keepalive comment, again and again; 0 = off")
    ] = 15.0
    ping_events: Annotated[
        bool, Meta(description="keepalives are `response.ping` events instead of comments (a request may say `?ping=`)")
    ] = False
    dialect: Annotated[
        Dialect, Meta(description="dialect of requests without an `X-Responses-Dialect` header: openai, open-responses")
    ] = "openai"
    unknown_fields: Annotated[
        UnknownFields, Meta(description="what to do with a request field nobody knows: refuse, ignore")
    ] = "refuse"

    store: Annotated[
        str, Meta(description="URL of the database, such as `postgresql://user@host/name`; empty: SQLite in `data_dir`")
    ] = ""
    data_dir: Annotated[
        Path, Meta(description="private directory (mode 0700) of the SQLite database and the API keys; made if absent")
    ] = Path(".holdfast/data")
    store_wait_s: Annotated[
        float,
        Meta(gt=0, description="how long the store may keep anybody waiting: for a connection, lock or statement"),
    ] = 5.0
    store_connections_max: Annotated[
        int, Meta(ge=2, description="connections of one process to the database; past it requests wait for one")
    ] = 4
    response_retention_s: Annotated[
        float, Meta(gt=0, description="how long a stored response is kept after its end")
    ] = 30 * 86400.0
    replay_retention_s: Annotated[
        float, Meta(gt=0, description="how long its stream can be replayed after its end")
    ] = 86400.0
    history_responses_max: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="responses in a chain of `previous_response_id`; past it a continuation is refused",
        ),
    ] = 1000
    history_items_max: Annotated[
        int, Meta(ge=1, description="items of earlier responses or a conversation; past it a continuation is refused")
    ] = 10_000
    sweep_interval_s: Annotated[
        float, Meta(gt=0, description="how often one frontend looks for what is old, deleted or abandoned in the store")
    ] = 10.0
    background_lost_after_s: Annotated[
        float,
        Meta(gt=0, description="age from which a background response that no worker knows is run again, or has failed"),
    ] = 60.0
    conversation_wait_s: Annotated[
        float, Meta(ge=0, description="how long a create waits for another response in its conversation; then 409")
    ] = 30.0
    conversation_lock_s: Annotated[
        float, Meta(gt=0, description="how long a response may keep others out of its conversation, should it get lost")
    ] = 600.0
    history_bytes_max: Annotated[
        int, Meta(ge=1, description="bytes of those items as JSON; past it a continuation is refused")
    ] = 32 * 2**20

    body_bytes_max: Annotated[int, Meta(ge=1, description="a larger request body is answered 413")] = 16 * 2**20
    streams_max: Annotated[
        int, Meta(ge=1, description="requests for responses served at once by one process; more are answered 503")
    ] = 10_000
    stream_buffer_bytes_max: Annotated[
        int, Meta(ge=1, description="bytes queued for a slow client; past it the stream pauses until they are read")
    ] = 2**20
    frame_bytes_max: Annotated[
        int, Meta(ge=1, description="a larger message from a worker is dropped, and asked for again")
    ] = 64 * 2**20
    queue_frames_max: Annotated[
        int, Meta(ge=1, description="messages queued to or from a worker; past it they are dropped and asked for again")
    ] = 500

    outgoing_allow: Annotated[
        str, Meta(description="networks that are not public and may be sent requests to all the same: `10.0.0.0/8,::1`")
    ] = ""
    webhook_url: Annotated[
        str, Meta(description="where to post how background responses ended, of all tenants; empty: nowhere")
    ] = ""
    webhook_secret: Annotated[
        str, Meta(description="what signs those posts, `whsec_...`; several separated by spaces all sign")
    ] = ""
    webhook_events: Annotated[str, Meta(description="which events to post there, separated by commas; empty: all")] = ""
    webhook_timeout_s: Annotated[
        float, Meta(gt=0, description="how long a webhook's endpoint has to answer; then the post has failed")
    ] = 15.0
    webhook_backoff_s: Annotated[
        float, Meta(gt=0, description="wait after a webhook's first failure; doubled with each further one")
    ] = 5.0
    webhook_backoff_max_s: Annotated[
        float, Meta(gt=0, description="the longest such wait, also where the endpoint's `Retry-After` asks for more")
    ] = 3600.0
    webhook_give_up_s: Annotated[
        float, Meta(ge=0, description="a webhook that could not be posted for so long is given up, and logged")
    ] = 259_200.0
    webhook_requests_max: Annotated[
        int, Meta(ge=1, description="webhooks posted at once by one process; the others wait in the store")
    ] = 32
    webhook_endpoint_requests_max: Annotated[
        int, Meta(ge=1, description="of those, to one endpoint, so that a slow one holds up no other")
    ] = 4
    webhook_interval_s: Annotated[
        float, Meta(gt=0, description="how often each process looks for webhooks that are due")
    ] = 2.0

    drain_s: Annotated[
        float,
        Meta(ge=0, description="at SIGTERM, time for live streams to finish; then they are closed, to be resumed"),
    ] = 4.0
    hang_after_s: Annotated[
        int, Meta(ge=2, description="a serving process whose event loop stands still for longer is killed and replaced")
    ] = 5
    access_log: Annotated[bool, Meta(description="log a line for each request when it is answered")] = False
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="least severe log messages shown")
    ] = "info"

    def __post_init__(self) -> None:
        """Raises `BadSetting` for what only a look inside shows to be wrong."""
        try:
            parse_networks(self.outgoing_allow)
        except ValueError as error:
            raise BadSetting(f"--outgoing-allow (HOLDFAST_OUTGOING_ALLOW): {error}") from error
        try:
            parse_workers(self.workers)
        except ValueError as error:
            raise BadSetting(f"--workers (HOLDFAST_WORKERS): {error}") from error
        try:
            webhook_endpoint(self.webhook_url, self.webhook_secret, self.webhook_events)
        except ValueError as error:
            raise BadSetting(f"--webhook-url, --webhook-secret, --webhook-events: {error}") from error
