"""Many accounts from a CSV file, each line whole or not at all."""

import asyncio
import csv
from dataclasses import dataclass
from pathlib import Path

from mailserver.address import parse_address
from mailserver.app.secret import make_password
from mailserver.cli.sizes import parse_size
from mailserver.errors import AlreadyExists, Invalid, MailError
from mailserver.mail import accounts
from mailserver.mail.context import Mail

COLUMNS = ("login", "name", "password", "quota", "aliases")
PARALLEL = 8  # lines at once: enough to keep the threads that hash passwords busy


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the file, checked as far as it can be without the database."""

    line: int
    login: str
    name: str
    password: str
    quota: int | None
    aliases: tuple[str, ...]
    made: bool  # the password was made here
    error: str | None = None


def read_rows(file: Path) -> list[Row]:
    """Read the file; Invalid when it has not the columns, a wrong line only fails itself."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        try:
            reader = csv.DictReader(stream)
            unknown = set(reader.fieldnames or ()) - set(COLUMNS)
            if "login" not in (reader.fieldnames or ()) or unknown:
                raise Invalid(f"{file}: the first line names the columns: {','.join(COLUMNS)}")
            return [_row(reader.line_num, record) for record in reader]
        except (csv.Error, UnicodeDecodeError) as error:
            raise Invalid(f"{file}: not CSV in UTF-8: {error}") from None


def _row(line: int, record: dict[str | None, str | list[str] | None]) -> Row:
    fields = {column: str(record.get(column) or "").strip() for column in COLUMNS}
    error = "more fields than columns" if None in record else None
    quota, login, aliases = (
        None,
        fields["login"],
        tuple(fields["aliases"].replace(";", " ").split()),
    )
    try:
        login = str(parse_address(login))
        aliases = tuple(str(parse_address(alias)) for alias in aliases)
        quota = parse_size(fields["quota"]) if fields["quota"] else None
    except Invalid as problem:
        error = error or str(problem)
    made = not fields["password"]
    password = make_password() if made else fields["password"]
    return Row(line, login, fields["name"], password, quota, aliases, made, error)


async def import_rows(mail: Mail, rows: list[Row]) -> list[dict[str, object]]:
    """Make the accounts and report on every line, in the order of the file."""
    gate = asyncio.Semaphore(PARALLEL)

    async def one(row: Row) -> dict[str, object]:
        error = row.error
        if error is None:
            async with gate:
                error = await _create(mail, row)
        return {
            "line": row.line,
            "login": row.login,
            "error": error,
            "password": row.password if row.made and error is None else None,
        }

    return list(await asyncio.gather(*(one(row) for row in rows)))


async def _create(mail: Mail, row: Row) -> str | None:
    """Make one account; return what kept it from being made."""
    try:
        await accounts.create(
            mail,
            row.login,
            name=row.name,
            password=row.password,
            quota=row.quota,
            aliases=row.aliases,
        )
    except AlreadyExists as error:
        return f"{error} is taken"
    except MailError as error:
        return f"{type(error).__name__}: {error}"
    return None
