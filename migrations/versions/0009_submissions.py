"""Identities, submissions, vacation responses, and what is left to do after a delivery."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE identity (                         -- RFC 8621 §6
        account_id     bigint NOT NULL REFERENCES account ON DELETE CASCADE,
        id             bigint NOT NULL,
        email          text NOT NULL,               -- '*@domain': any address there
        name           text NOT NULL,
        reply_to       jsonb,                       -- EmailAddress[], RFC 8621 §4.1.2.3
        bcc            jsonb,
        text_signature text NOT NULL DEFAULT '',
        html_signature text NOT NULL DEFAULT '',
        standard       boolean NOT NULL,            -- came with an address and goes with it only
        PRIMARY KEY (account_id, id)
    )
    """,
    # numbers this small are never made for new ones
    """
    INSERT INTO identity (account_id, id, email, name, standard)
    SELECT a.account_id, row_number() OVER (PARTITION BY a.account_id ORDER BY a.address),
           CASE WHEN a.address LIKE '@%' THEN '*' ELSE '' END || a.address, account.name, true
    FROM address a
    JOIN account ON account.id = a.account_id
    WHERE a.send
    """,
    """
    CREATE TABLE submission (                       -- RFC 8621 §7
        account_id  bigint NOT NULL REFERENCES account ON DELETE CASCADE,
        id          bigint NOT NULL,
        identity_id bigint NOT NULL,
        email_id    bigint NOT NULL,                -- these three may be gone
        thread_id   bigint NOT NULL,
        queue_id    bigint,                         -- null: nothing of it was queued
        message_id  text NOT NULL,                  -- what reports about it may name
        envelope    jsonb NOT NULL,
        send_at     timestamptz NOT NULL,
        undo_status smallint NOT NULL,
        settled     boolean NOT NULL,               -- the queue has no more news of it
        PRIMARY KEY (account_id, id)
    )
    """,
    "CREATE INDEX submission_queue ON submission (queue_id) WHERE NOT settled",
    "CREATE INDEX submission_message ON submission (account_id, message_id)",
    "CREATE INDEX submission_sent ON submission (send_at)",
    """
    CREATE TABLE submission_recipient (
        account_id    bigint NOT NULL,
        submission_id bigint NOT NULL,
        recipient     text NOT NULL,                -- as the envelope has it
        delivered     smallint NOT NULL,
        displayed     boolean NOT NULL DEFAULT false,
        reply         text NOT NULL,
        PRIMARY KEY (account_id, submission_id, recipient),
        FOREIGN KEY (account_id, submission_id) REFERENCES submission ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE submission_report (                -- holds a reference to the blob
        account_id    bigint NOT NULL,
        submission_id bigint NOT NULL,
        blob_id       bytea NOT NULL,
        kind          smallint NOT NULL,            -- 1: DSN, 2: MDN
        received_at   timestamptz NOT NULL,
        PRIMARY KEY (account_id, submission_id, blob_id),
        FOREIGN KEY (account_id, submission_id) REFERENCES submission ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE vacation (                         -- RFC 8621 §8
        account_id bigint PRIMARY KEY REFERENCES account ON DELETE CASCADE,
        enabled    boolean NOT NULL,
        from_date  timestamptz,
        to_date    timestamptz,
        subject    text,
        text_body  text,
        html_body  text
    )
    """,
    # read with the lock that every delivery takes
    "ALTER TABLE account ADD COLUMN responds boolean NOT NULL DEFAULT false",
    """
    CREATE TABLE vacation_sent (                    -- who was told, RFC 5230 §4.2
        account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
        sender     text NOT NULL,
        sent_at    timestamptz NOT NULL,
        PRIMARY KEY (account_id, sender)
    )
    """,
    "CREATE INDEX vacation_sent_at ON vacation_sent (sent_at)",
    """
    CREATE TABLE delivery_task (                    -- written by the commit of a delivery
        account_id  bigint NOT NULL REFERENCES account ON DELETE CASCADE,
        email_id    bigint NOT NULL,
        kind        smallint NOT NULL,              -- 1: a vacation response, 2: a report to file
        sender      text NOT NULL,                  -- reverse-path
        received_at timestamptz NOT NULL,
        PRIMARY KEY (account_id, email_id, kind)
    )
    """,
    "CREATE INDEX delivery_task_received ON delivery_task (received_at)",
)


def upgrade() -> None:
    """Add the tables; every address that may send has its identity from now on."""
    for statement in STATEMENTS:
        op.execute(statement)
