"""How many files a process may have open: the soft limit, which is low for the sake of old programs, can be raised."""

import resource


def allow_open_files(wanted: int) -> int:
    """Raise this process's limit to so many, as far as the hard one allows; returns how many it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted if soft == resource.RLIM_INFINITY else soft
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed
