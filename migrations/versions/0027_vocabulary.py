"""Most searches by IMAP read the words of frames, which are a tenth of their texts."""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

STATEMENTS = (
    # the words of the texts, each once, with the messages that have it; null: still to be made
    "ALTER TABLE search_frame ADD COLUMN vocabulary bytea",
    "ALTER TABLE search_frame ALTER COLUMN vocabulary SET STORAGE EXTERNAL",
    """
    CREATE INDEX search_frame_no_vocabulary ON search_frame (account_id, id)
        WHERE vocabulary IS NULL
    """,
)


def upgrade() -> None:
    """Add the column; the server fills it for what is there while it runs."""
    for statement in STATEMENTS:
        op.execute(statement)
