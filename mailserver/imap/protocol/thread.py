"""THREAD: its arguments, and the ways to put messages into threads (RFC 5256 §3).

Nothing here is recursive: how deep a thread is, strangers decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.search import charset, search_keys
from mailserver.imap.protocol.search_keys import Key


class Algorithm(Enum):
    """How messages become threads."""

    ORDEREDSUBJECT = b"ORDEREDSUBJECT"
    REFERENCES = b"REFERENCES"
    REFS = b"REFS"  # draft-ietf-morg-inthread


@dataclass(frozen=True, slots=True)
class Thread:
    """THREAD: how, of what, and how to name it."""

    algorithm: Algorithm
    key: Key
    by_uid: bool


class Member(NamedTuple):
    """What threads are made by, of one message."""

    message_id: str | None
    references: Sequence[str]
    subject: str  # the base subject; the same for subjects that differ in case only
    is_reply: bool  # the subject had the mark of a reply or forward
    sent: float  # when it was sent, or arrived if that is not known
    arrived: float


def parse_thread(args: Cursor) -> Thread:
    """Read thread = "THREAD" SP thread-alg SP search-criteria."""
    return _thread(args, by_uid=False)


def parse_uid_thread(args: Cursor) -> Thread:
    """Read "UID" SP thread."""
    return _thread(args, by_uid=True)


def _thread(args: Cursor, *, by_uid: bool) -> Thread:
    args.space()
    try:
        algorithm = Algorithm(args.word())
    except ValueError:
        args.fail("Unknown threading algorithm")
    args.space()
    encoding = charset(args, None)
    args.space()
    return Thread(algorithm, search_keys(args, encoding), by_uid)


@dataclass(slots=True)
class Forest:
    """Threads: the nodes below each node; a node from `count` on is a dummy, at the root only."""

    count: int
    roots: list[int]
    children: list[list[int]]

    def render(self, numbers: Sequence[int]) -> bytes:
        """Write thread-list (RFC 5256 §5); `numbers` are the names of the messages."""
        out: list[bytes] = []
        # what is still to be written, the next at the end: text, or a node
        todo: list[bytes | int] = []
        for root in reversed(self.roots):
            todo += (b")", root, b"(")
        while todo:
            item = todo.pop()
            if isinstance(item, bytes):
                out.append(item)
                continue
            below = self.children[item]
            if item < self.count:
                out.append(b"%d" % numbers[item])
                if below:
                    out.append(b" ")
            if len(below) == 1 and item < self.count:
                todo.append(below[0])
                continue
            for child in reversed(below):
                todo += (b")", child, b"(")
        return b"".join(out)


def by_subject(members: Sequence[Member]) -> Forest:
    """ORDEREDSUBJECT: one level below the first message of each subject."""
    groups: dict[str, list[int]] = {}
    for index in sorted(range(len(members)), key=lambda index: members[index].sent):
        groups.setdefault(members[index].subject, []).append(index)
    children: list[list[int]] = [[] for _ in members]
    for first, *others in groups.values():
        children[first] = others
    # groups were begun in the order of the sent date of their first message
    return Forest(len(members), [group[0] for group in groups.values()], children)


def by_references(members: Sequence[Member]) -> Forest:
    """REFERENCES: replies below what they reply to, and threads of one subject together."""
    return _References(members).forest()


def by_refs(members: Sequence[Member]) -> Forest:
    """REFS: replies below what they reply to; the thread with the latest arrival comes last."""
    return _References(members).forest_by_arrival()


class _References:
    """The six steps of RFC 5256 §3; nodes are numbers, those after the messages are dummies."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = members
        self.count = len(members)
        self.parents: list[int] = [-1] * self.count
        self.is_parent: list[bool] = [False] * self.count  # or was one
        self.children: list[list[int]] = []
        self.roots: list[int] = []
        self._replaced: dict[int, int] = {}  # roots that went below a new dummy

    def forest(self) -> Forest:
        """Do all steps."""
        self._tie()
        self.roots.sort(key=self._order)
        self._merge_subjects()
        self._sort_children()
        self.roots.sort(key=self._order)
        return Forest(self.count, self.roots, self.children)

    def forest_by_arrival(self) -> Forest:
        """Do the steps without subjects, and order the threads by their latest messages."""
        self._tie()
        self._sort_children()
        self.roots.sort(key=self._latest)
        return Forest(self.count, self.roots, self.children)

    def _tie(self) -> None:
        """Do steps 1 to 3."""
        self._link()
        self._gather()
        self._prune()

    def _sort_children(self) -> None:
        for below in self.children:
            if len(below) > 1:
                below.sort(key=self._order)

    def _latest(self, root: int) -> tuple[float, int]:
        """When the last message of a thread arrived, and its number."""
        nodes = [root]
        for node in nodes:  # grows while it is walked
            nodes += self.children[node]
        return max((self.members[node].arrived, node) for node in nodes if node < self.count)

    # step 1 ----------------------------------------------------------------------------------

    def _link(self) -> None:
        named = self._named()
        parents, is_parent = self.parents, self.is_parent
        for index, member in enumerate(self.members):
            before = -1
            for reference in member.references:
                node = named.get(reference)
                if node is None:
                    node = named[reference] = len(parents)
                    parents.append(-1)
                    is_parent.append(False)
                if before >= 0 and parents[node] < 0 and not self._loops(before, node):
                    parents[node] = before
                    is_parent[before] = True
                before = node
            # the last reference is the parent, whatever other messages made of it
            parents[index] = -1
            if before >= 0 and not self._loops(before, index):
                parents[index] = before
                is_parent[before] = True

    def _named(self) -> dict[str, int]:
        """Return the messages by Message ID; of several with the same, the first."""
        named: dict[str, int] = {}
        for index, member in enumerate(self.members):
            if member.message_id is not None:
                named.setdefault(member.message_id, index)
        return named

    def _loops(self, parent: int, child: int) -> bool:
        """Whether the child is the parent, or above it."""
        if not self.is_parent[child]:
            return parent == child
        node = parent
        while node >= 0:
            if node == child:
                return True
            node = self.parents[node]
        return False

    # steps 2 to 4 ----------------------------------------------------------------------------

    def _gather(self) -> None:
        self.children = [[] for _ in self.parents]
        for node, parent in enumerate(self.parents):
            (self.roots if parent < 0 else self.children[parent]).append(node)

    def _prune(self) -> None:
        """Take the dummies out, those at the root with several children excepted."""
        downwards = list(self.roots)
        for node in downwards:  # grows while it is walked
            downwards += self.children[node]
        for node in reversed(downwards):
            below = self.children[node]
            if any(child >= self.count for child in below):
                self.children[node] = [each for child in below for each in self._kept(child)]
        roots = []
        for root in self.roots:
            kept = self._kept(root)
            roots += kept if len(kept) < 2 else [root]
        self.roots = roots

    def _kept(self, node: int) -> list[int]:
        """Return what stays in the place of a node."""
        return [node] if node < self.count else self.children[node]

    def _order(self, node: int) -> tuple[float, int]:
        """By sent date, then by number; a dummy by its first child."""
        if node >= self.count:
            return min(map(self._order, self.children[node]))
        return self.members[node].sent, node

    # step 5 ----------------------------------------------------------------------------------

    def _thread_subject(self, root: int) -> tuple[str, bool]:
        """Return the base subject of a thread, and whether its root is a reply."""
        if root < self.count:
            member = self.members[root]
            return member.subject, member.is_reply
        return self.members[min(self.children[root], key=self._order)].subject, False

    def _merge_subjects(self) -> None:
        subjects = {root: self._thread_subject(root) for root in self.roots}
        table: dict[str, int] = {}
        for root in self.roots:
            subject, is_reply = subjects[root]
            if not subject:
                continue
            known = table.setdefault(subject, root)
            if known < self.count and (root >= self.count or (subjects[known][1] and not is_reply)):
                table[subject] = root
        gone: set[int] = set()
        for root in self.roots:
            subject, is_reply = subjects[root]
            if not subject or table[subject] == root:
                continue
            gone.add(root)
            table[subject] = self._merge(root, table[subject], subjects)
        roots = (self._replaced.get(root, root) for root in self.roots if root not in gone)
        self.roots = list(roots)

    def _merge(self, root: int, known: int, subjects: dict[int, tuple[str, bool]]) -> int:
        """Put a thread to the one of the same subject; return what stands for both."""
        if known >= self.count:
            if root >= self.count:
                self.children[known] += self.children[root]
            else:
                self.children[known].append(root)
            return known
        if subjects[root][1] and not subjects[known][1]:
            self.children[known].append(root)
            return known
        dummy = len(self.children)
        self.children.append([known, root])
        self._replaced[known] = dummy
        return dummy
