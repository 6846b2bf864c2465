"""What a key's limits cost a request: to be let in, to be charged, and to be told what is left.

    python -m benchmarks.limits_cost

Four processes' counters stand in one directory, as they do with four frontends, and all have seen every second.
"""

import tempfile
import time
from pathlib import Path

from frontend.config import Settings
from frontend.messages import Charge
from frontend.tenants.gate import Gate
from frontend.tenants.key_file import Key, digest, edited_keys
from frontend.tenants.limits import KeyLimits
from protocol.records import Usage

FRONTENDS = 4
REQUESTS = 5000
LIMITS = KeyLimits(requests_per_minute=10**6, tokens_per_minute=10**9, streams=1000)


def main() -> None:
    """Print the processor time of a request with a key that has all limits, and with one that has none."""
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(run_dir=Path(directory), data_dir=Path(directory))
        now = 1000.0
        with edited_keys(settings.data_dir / "keys.json", settings.keys_max) as keys:
            keys += [Key("limited", "t", digest("l"), 0, LIMITS), Key("free", "t", digest("f"), 0)]
        gates = [Gate(settings, lambda: now) for _ in range(FRONTENDS)]
        for _ in range(61):
            now += 1
            for gate in gates:
                _request(gate, "l", "limited")
        for secret, name in (("l", "limited"), ("f", "free")):
            begun = time.process_time()
            for _ in range(REQUESTS):
                _request(gates[0], secret, name)
            cost = (time.process_time() - begun) / REQUESTS * 1e6
            print(f"{name:>8} key: {cost:5.1f} us a request")
        for gate in gates:
            gate.close()


def _request(gate: Gate, secret: str, name: str) -> None:
    key = gate.key_for(secret)
    with gate.admitted(key, requests=1, tokens=100):
        gate.headers(key)
        gate.charge(Charge(str(time.perf_counter_ns()), 0, name, "demo", "stop", Usage(10, 0, 10, 0)))


if __name__ == "__main__":
    main()
