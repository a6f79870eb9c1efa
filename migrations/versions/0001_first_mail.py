"""Accounts, mailboxes, messages, blobs, the change log and the outgoing queue.

Everything that belongs to an account is keyed by account_id first, and the large tables are
partitioned by it. No index covers anything that changes in `msg`, so flag changes are HOT updates.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

PARTITIONS = 16

STATEMENTS = (
    # a node number for ids; it cycles, so 1024 processes can start before one is used again
    "CREATE SEQUENCE node MINVALUE 0 MAXVALUE 1023 CYCLE",
    # never reused, whatever is deleted and made again (RFC 9051 §2.3.1.1)
    "CREATE SEQUENCE uidvalidity AS bigint MINVALUE 1 MAXVALUE 4294967295",
    """
    CREATE TABLE domain (
        name       text PRIMARY KEY,
        created_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE account (
        id              bigint PRIMARY KEY,
        login           text NOT NULL UNIQUE,
        name            text NOT NULL,
        password        text,                       -- argon2id; null: no password login
        scram           text,                       -- keys of SCRAM-SHA-256, RFC 5802; or null
        enabled         boolean NOT NULL DEFAULT true,
        created_at      timestamptz NOT NULL,
        quota_limit     bigint,                     -- bytes
        quota_used      bigint NOT NULL DEFAULT 0,  -- bytes
        modseq          bigint NOT NULL DEFAULT 0,
        low_water_mark  bigint NOT NULL DEFAULT 0   -- changes up to here have been trimmed
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE address (
        address    text NOT NULL,                   -- normal form; '@domain' catches all
        account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
        send       boolean NOT NULL DEFAULT true,   -- the account may send as this address
        PRIMARY KEY (address, account_id)
    )
    """,
    "CREATE INDEX address_account ON address (account_id)",
    """
    CREATE TABLE mailbox (
        account_id     bigint NOT NULL REFERENCES account ON DELETE CASCADE,
        id             bigint NOT NULL,
        parent_id      bigint,
        name           text NOT NULL,               -- the last part of the path
        role           text,
        subscribed     boolean NOT NULL DEFAULT true,
        sort_order     int NOT NULL DEFAULT 10,
        uidvalidity    bigint NOT NULL DEFAULT nextval('uidvalidity'),
        uidnext        bigint NOT NULL DEFAULT 1,
        recent_uid     bigint NOT NULL DEFAULT 1,   -- the first UID no session has seen as recent
        modseq         bigint NOT NULL,
        total          int NOT NULL DEFAULT 0,
        unseen         int NOT NULL DEFAULT 0,
        deleted        int NOT NULL DEFAULT 0,
        size           bigint NOT NULL DEFAULT 0,   -- bytes
        PRIMARY KEY (account_id, id),
        UNIQUE NULLS NOT DISTINCT (account_id, parent_id, name),
        FOREIGN KEY (account_id, parent_id) REFERENCES mailbox (account_id, id)
    ) WITH (fillfactor = 50)
    """,
    "CREATE UNIQUE INDEX mailbox_role ON mailbox (account_id, role) WHERE role IS NOT NULL",
    """
    CREATE TABLE metadata (                         -- annotations, RFC 5464
        account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
        mailbox_id bigint,                          -- null: of the account itself
        name       text NOT NULL,                   -- of the entry, in lower case
        value      bytea NOT NULL,
        UNIQUE NULLS NOT DISTINCT (account_id, mailbox_id, name),
        FOREIGN KEY (account_id, mailbox_id) REFERENCES mailbox (account_id, id) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE thread_ref (                       -- which thread a message id belongs to
        account_id bigint NOT NULL,
        hash       bigint NOT NULL,                 -- of a message id and the base subject
        thread_id  bigint NOT NULL,
        PRIMARY KEY (account_id, hash)
    )
    """,
    """
    CREATE TABLE blob (
        account_id      bigint NOT NULL,
        id              bytea NOT NULL,             -- SHA-256 of the content
        size            bigint NOT NULL,            -- bytes of the content
        refs            int NOT NULL,               -- emails, uploads, queue entries
        created_at      timestamptz NOT NULL,
        unreferenced_at timestamptz,                -- when refs became 0
        object          text,                       -- in S3; null: not copied yet
        "offset"        bigint,                     -- of the stored form in the object
        length          bigint,                     -- of the stored form, zstd
        copied_at       timestamptz,                -- read back after the copy
        hot             boolean NOT NULL DEFAULT true,
        PRIMARY KEY (account_id, id)
    )
    """,
    # what the mover and the collector look for: rows leave these indexes when they are done
    "CREATE INDEX blob_to_copy ON blob (created_at) WHERE object IS NULL",
    "CREATE INDEX blob_to_drop ON blob (created_at) WHERE hot AND object IS NOT NULL",
    "CREATE INDEX blob_object ON blob (object) WHERE object IS NOT NULL",
    "CREATE INDEX blob_to_collect ON blob (unreferenced_at) WHERE refs = 0",
    """
    CREATE TABLE upload (                           -- a reference that holds an uploaded blob
        account_id bigint NOT NULL,
        blob_id    bytea NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (account_id, blob_id)
    )
    """,
    "CREATE INDEX upload_created ON upload (created_at)",
    """
    CREATE TABLE lease (                            -- background work that one process does
        name       text PRIMARY KEY,
        owner      text NOT NULL,
        expires_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE queue_message (
        id          bigint PRIMARY KEY,
        account_id  bigint NOT NULL,                -- whose blob it is
        blob_id     bytea NOT NULL,
        sender      text NOT NULL,                  -- reverse-path; empty: <>
        size        bigint NOT NULL,
        smtputf8    boolean NOT NULL,
        body        text NOT NULL,                  -- 7BIT, 8BITMIME, BINARYMIME
        envid       text,                           -- RFC 3461 §4.4
        ret         text,                           -- RFC 3461 §4.3
        received_at timestamptz NOT NULL,
        session     text NOT NULL
    )
    """,
    """
    CREATE TABLE queue_recipient (
        message_id    bigint NOT NULL REFERENCES queue_message ON DELETE CASCADE,
        recipient     text NOT NULL,                -- forward-path as given
        domain        text NOT NULL,
        state         smallint NOT NULL,
        next_attempt  timestamptz NOT NULL,
        expires_at    timestamptz NOT NULL,
        attempts      int NOT NULL DEFAULT 0,
        notify        text,                         -- RFC 3461 §4.1
        orcpt         text,                         -- RFC 3461 §4.2
        last_reply    text,
        lease_until   timestamptz,
        lease_owner   text,
        PRIMARY KEY (message_id, recipient)
    ) WITH (fillfactor = 70)
    """,
    "CREATE INDEX queue_recipient_due ON queue_recipient (next_attempt) WHERE state = 0",
    "CREATE INDEX queue_recipient_state ON queue_recipient (state, message_id)",
)

PARTITIONED = (
    # name, columns that are compressed already, columns, storage parameters
    (
        "email",
        ("env", "header"),
        """
        account_id  bigint NOT NULL,
        id          bigint NOT NULL,
        thread_id   bigint NOT NULL,
        blob_id     bytea NOT NULL,
        size        bigint NOT NULL,
        received_at timestamptz NOT NULL,
        sent_at     timestamptz,
        env         bytea NOT NULL,   -- mime.Env
        header      bytea NOT NULL,   -- zstd of the header block
        PRIMARY KEY (account_id, id)
        """,
        "",
    ),
    (
        "msg",
        (),
        """
        account_id  bigint NOT NULL,
        mailbox_id  bigint NOT NULL,
        uid         bigint NOT NULL,
        email_id    bigint NOT NULL,
        thread_id   bigint NOT NULL,
        received_at timestamptz NOT NULL,
        size        bigint NOT NULL,
        modseq      bigint NOT NULL,
        flags       int NOT NULL,
        keywords    text[],                            -- null when there is none
        PRIMARY KEY (account_id, mailbox_id, uid)
        """,
        "WITH (fillfactor = 85)",
    ),
    (
        "change",
        (),
        """
        account_id  bigint NOT NULL,
        modseq      bigint NOT NULL,
        kind        smallint NOT NULL,
        mailbox_id  bigint NOT NULL,
        uids        bigint[],
        email_ids   bigint[],
        thread_ids  bigint[],
        created_at  timestamptz NOT NULL
        """,
        "",
    ),
    (
        "blob_hot",
        ("data",),
        """
        account_id  bigint NOT NULL,
        id          bytea NOT NULL,
        data        bytea NOT NULL,   -- zstd of the content
        PRIMARY KEY (account_id, id)
        """,
        "",
    ),
)

INDEXES = (
    "CREATE INDEX email_thread ON email (account_id, thread_id)",
    # an email is in a mailbox once, as JMAP sees it: COPY onto itself makes another email
    "CREATE UNIQUE INDEX msg_email ON msg (account_id, email_id, mailbox_id)",
    "CREATE INDEX msg_received ON msg (account_id, mailbox_id, received_at, uid)",
    "CREATE INDEX change_modseq ON change (account_id, modseq)",
    "CREATE INDEX change_created ON change USING brin (created_at)",  # for the trimming by age
)


def upgrade() -> None:
    """Make every table of the first version."""
    for statement in STATEMENTS:
        op.execute(statement)
    for name, external, columns, storage in PARTITIONED:
        op.execute(f"CREATE TABLE {name} ({columns}) PARTITION BY HASH (account_id)")
        for column in external:
            op.execute(f"ALTER TABLE {name} ALTER COLUMN {column} SET STORAGE EXTERNAL")
        for remainder in range(PARTITIONS):
            op.execute(
                f"CREATE TABLE {name}_{remainder} PARTITION OF {name} "
                f"FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {remainder}) {storage}"
            )
    for statement in INDEXES:
        op.execute(statement)
