"""Of which email another one is a copy, and when messages were saved to their mailboxes.

Both belong to a row of `msg` for its whole life: RFC 8474 §5.1, RFC 8514 §3. Messages that are
there already count as saved when this runs: a client that removes old mail by that date waits
longer, and removes nothing too soon.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    # null: of none; then the email is the original
    "ALTER TABLE msg ADD COLUMN original_id bigint",
    "ALTER TABLE msg ADD COLUMN saved_at timestamptz NOT NULL DEFAULT now()",
)


def upgrade() -> None:
    """Add two columns; neither rewrites the table."""
    for statement in STATEMENTS:
        op.execute(statement)
