"""What lasts: responses, conversations and deliveries in SQLite or PostgreSQL. Only frontends come here.

Theory of operation
    `Store` (store.py) is what others hold. It has one part for each subject, every part in a file of its own; a method
    is one short transaction, typed, for one tenant. Nothing here knows HTTP, workers or the meaning of a record: JSON
    and encoded records come and go as bytes, times come in as arguments.

    store.responses           rows, the conditional close (`finish`), tombstones
    store.items               input items by page, items by id, the history of a chain
    store.conversations       conversations and who writes to one
    store.conversation_items  their items
    store.replay              response logs, record for record
    store.deliveries          webhooks that are due
    store.leases              what only one frontend may do at a time
    store.retention           what is old goes; what is deleted leaves no bytes behind

    Whatever keeps the database from answering (a lock held too long, a full disk, a lost connection) is one error,
    `StoreUnavailable`. Any other database error is a bug and is raised as it is.
"""
