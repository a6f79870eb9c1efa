"""The text of messages as it is searched, made behind delivery.

Nothing here is needed to deliver or to read mail; all of it can be made again from the messages.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

PARTITIONS = 16

STATEMENTS = (
    # trusted since PostgreSQL 13: whoever may create tables may create it
    "CREATE EXTENSION IF NOT EXISTS btree_gin",
    """
    CREATE TABLE search_progress (                  -- how far the search text of an account is
        account_id bigint PRIMARY KEY REFERENCES account ON DELETE CASCADE,
        modseq     bigint NOT NULL,                 -- the change log was followed up to here
        before     bigint                           -- emails with ids below are to do; null: none
    ) WITH (fillfactor = 50)
    """,
)

PARTITIONED = (
    (
        "search_frame",  # the texts of some messages in one piece
        """
        account_id bigint NOT NULL,
        id         bigint NOT NULL,
        first_id   bigint NOT NULL,                 -- of the emails in it
        last_id    bigint NOT NULL,
        email_ids  bytea NOT NULL,                  -- 8 octets each, in the order of the texts
        cut_ids    bytea NOT NULL,                  -- those whose text is longer than what is kept
        size       int NOT NULL,                    -- octets of the texts
        small      boolean NOT NULL,                -- to be joined with others
        dead       int NOT NULL DEFAULT 0,          -- emails that were destroyed since
        data       bytea NOT NULL,                  -- zstd of the texts
        PRIMARY KEY (account_id, id)
        """,
        "WITH (fillfactor = 90)",
        "ALTER TABLE search_frame ALTER COLUMN data SET STORAGE EXTERNAL",
    ),
    (
        "search_word",  # the words of each message
        """
        account_id bigint NOT NULL,
        email_id   bigint NOT NULL,
        words      tsvector NOT NULL,               -- without positions
        PRIMARY KEY (account_id, email_id)
        """,
        # a common word matches half of the rows: they are small, the words are elsewhere
        "WITH (toast_tuple_target = 128)",
        None,
    ),
)

INDEXES = (
    "CREATE INDEX search_frame_tidy ON search_frame (account_id, id) WHERE small OR dead > 0",
    # what was added lately is looked through one by one: 1 MB takes 2 ms
    """
    CREATE INDEX search_word_words ON search_word USING gin (account_id, words)
        WITH (gin_pending_list_limit = 1024)
    """,
)


def upgrade() -> None:
    """Make the tables; what is there already is read little by little while the server runs."""
    for statement in STATEMENTS:
        op.execute(statement)
    for name, columns, storage, alteration in PARTITIONED:
        op.execute(f"CREATE TABLE {name} ({columns}) PARTITION BY HASH (account_id)")
        if alteration is not None:
            op.execute(alteration)
        for remainder in range(PARTITIONS):
            op.execute(
                f"CREATE TABLE {name}_{remainder} PARTITION OF {name} "
                f"FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {remainder}) {storage}"
            )
    for statement in INDEXES:
        op.execute(statement)
