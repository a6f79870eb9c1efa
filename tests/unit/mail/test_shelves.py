"""What is kept in memory of mailboxes has its bounds."""

from mailserver.mail.shelves import SHELF_SIZE, Shelves


def test_what_was_used_longest_ago_makes_room() -> None:
    shelves: Shelves[bytes] = Shelves(2 * SHELF_SIZE + 100)
    inbox = shelves.get("inbox")
    shelves.keep(inbox, {1: b"a", 2: b"b"}, 60)
    assert shelves.get("inbox") is inbox
    work = shelves.get("work")
    shelves.keep(work, {3: b"c"}, 60)
    assert (work.rows, shelves.size) == ({3: b"c"}, SHELF_SIZE + 60)
    assert inbox.forgotten
    shelves.keep(inbox, {5: b"e"}, 1)  # forgotten while it was being read
    assert shelves.size == SHELF_SIZE + 60
    assert shelves.get("inbox").rows == {}


def test_the_order_is_that_of_use() -> None:
    shelves: Shelves[bytes] = Shelves(3 * SHELF_SIZE)
    first, second, third = map(shelves.get, "abc")
    shelves.get("a")
    shelves.get("d")
    assert [each.forgotten for each in (first, second, third)] == [False, True, False]


def test_what_is_larger_than_the_room_is_kept_in_part() -> None:
    shelves: Shelves[bytes] = Shelves(SHELF_SIZE + 100)
    shelf = shelves.get("inbox")
    shelves.keep(shelf, {1: b"a"}, 100)
    shelves.keep(shelf, {2: b"b"}, 1)
    assert (shelf.rows, shelves.size) == ({1: b"a"}, SHELF_SIZE + 100)


def test_two_sessions_that_read_the_same_are_counted_once() -> None:
    shelves: Shelves[bytes] = Shelves(SHELF_SIZE + 100)
    shelf = shelves.get("inbox")
    shelves.keep(shelf, {1: b"a", 2: b"b"}, 40)
    shelves.keep(shelf, {2: b"b", 3: b"c"}, 40)
    assert (set(shelf.rows), shelves.size) == ({1, 2}, SHELF_SIZE + 40)


def test_shelves_without_rows_count_too() -> None:
    shelves: Shelves[bytes] = Shelves(10 * SHELF_SIZE)
    for number in range(100):
        shelves.get(number)
    assert shelves.size == 10 * SHELF_SIZE
