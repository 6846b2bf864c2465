"""Who may ask, and how much: API keys, the tenants they stand for, and their limits.

    key_file.py     the keys as they stand in their file, and the keys of a process that serves
    limits.py       what one key may do and has done, and what follows; pure
    counters.py     what one process counts, as words that other processes read; pure
    shared.py       those words in files, one of each process
    gate.py         who is let in: both of the above, for one application
    access.py       the gate in front of the endpoints: what a request must show, and what its answer says

`frontend/keys.py` is the command line that edits the file.
"""
