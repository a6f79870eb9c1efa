"""Who writes words says how many may wait to be sorted into the index."""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

RESET = """
    DO $$
    DECLARE part regclass;
    BEGIN
        FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'search_word_words'::regclass
        LOOP
            EXECUTE format('ALTER INDEX %s RESET (gin_pending_list_limit)', part);
        END LOOP;
    END $$
"""

STATEMENTS = (
    RESET,
    # what is a word has changed since the column is there: they are made again
    "UPDATE search_frame SET vocabulary = NULL WHERE vocabulary IS NOT NULL",
)


def upgrade() -> None:
    """Leave the limit to the session."""
    for statement in STATEMENTS:
        op.execute(statement)
