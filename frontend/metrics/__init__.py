"""What is counted and shown at /metrics, right across the serving processes of a host.

    catalogue.py    every metric: its name, meaning, labels and buckets
    sheet.py        what one process counts, as words that others read while they change; pure
    files.py        the sheets of all processes of a run directory, living and dead, as one sum
    counting.py     the instruments: what the rest of the frontend says has happened
    pacing.py       how long one response lets its reader wait
    watch.py        what links tell: ended turns, adoptions, moves; with every heartbeat this process and its workers
    exposition.py   sums and workers as Prometheus reads them
    endpoint.py     GET /metrics, and who may ask

prometheus_client writes the answer. Its own way of counting in several processes is not used: it takes its directory
from the environment when it is imported, grows its files without their blocks, so that a full disk kills the process
that counts, and keeps a file for every process that ever was.
"""
