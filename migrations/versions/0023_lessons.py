"""What users teach the content filter, and whom they know."""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE spam_lesson (                       -- written by the commit that moves or flags
        id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
        blob_id    bytea NOT NULL,
        spam       boolean,                          -- null: neither, no longer
        created_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX spam_lesson_account ON spam_lesson (account_id)",
    """
    CREATE TABLE spam_model (
        owner        bigint PRIMARY KEY,             -- an account; 0: the server
        account_id   bigint UNIQUE REFERENCES account ON DELETE CASCADE,
        version      bigint NOT NULL,                -- of the newest change
        base_version bigint NOT NULL,                -- that the base has in it
        base         bytea                           -- zstd
    )
    """,
    """
    CREATE TABLE spam_delta (                        -- changes since the base
        owner   bigint NOT NULL REFERENCES spam_model ON DELETE CASCADE,
        version bigint NOT NULL,
        data    bytea NOT NULL,                      -- zstd
        PRIMARY KEY (owner, version)
    )
    """,
    """
    CREATE TABLE spam_taught (                       -- what a model has learned, each message once
        owner   bigint NOT NULL REFERENCES spam_model ON DELETE CASCADE,
        blob_id bytea NOT NULL,
        spam    boolean NOT NULL,
        PRIMARY KEY (owner, blob_id)
    )
    """,
    """
    CREATE TABLE correspondent (                     -- to whom an account writes
        account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
        address    text NOT NULL,                    -- normal form
        at         timestamptz NOT NULL,
        PRIMARY KEY (account_id, address)
    )
    """,
    """
    CREATE TABLE sender_history (                    -- what came from domains and networks
        name text PRIMARY KEY,                       -- dmarc:example.org, dkim:, net:192.0.2.0/24
        ham  real NOT NULL,                          -- messages, the older the less
        spam real NOT NULL,
        at   timestamptz NOT NULL                    -- of the newest
    )
    """,
    "CREATE INDEX sender_history_at ON sender_history (at)",
)


def upgrade() -> None:
    """Add the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
