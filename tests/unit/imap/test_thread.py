"""Threads against the steps of RFC 5256 §3 done literally, one object a message."""

import itertools
import re
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.imap.protocol.thread import Forest, Member, by_references, by_refs, by_subject


@dataclass(eq=False)
class Node:
    """A message, or a dummy."""

    index: int | None = None
    parent: "Node | None" = None
    children: "list[Node]" = field(default_factory=list)

    def adopt(self, child: "Node") -> None:
        child.leave()
        child.parent = self
        self.children.append(child)

    def leave(self) -> None:
        if self.parent is not None:
            self.parent.children.remove(self)
            self.parent = None

    def is_above(self, other: "Node | None") -> bool:
        while other is not None:
            if other is self:
                return True
            other = other.parent
        return False


class Literal:
    """The six steps, as they are written."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members
        self.root = Node()

    def key(self, node: Node) -> tuple[float, int]:
        if node.index is None:
            return min(self.key(child) for child in node.children)
        return self.members[node.index].sent, node.index

    def subject(self, node: Node) -> str:
        if node.index is None:
            node = min(node.children, key=self.key)
        assert node.index is not None
        return self.members[node.index].subject

    def is_reply(self, node: Node) -> bool:
        return node.index is not None and self.members[node.index].is_reply

    def link(self) -> list[Node]:
        nodes = [Node(index) for index in range(len(self.members))]
        table: dict[str, Node] = {}
        for node, member in zip(nodes, self.members, strict=True):
            if member.message_id is not None and member.message_id not in table:
                table[member.message_id] = node
        for node, member in zip(nodes, self.members, strict=True):
            chain = [table.setdefault(each, Node()) for each in member.references]
            for parent, child in itertools.pairwise(chain):
                if child.parent is None and not child.is_above(parent):
                    parent.adopt(child)
            node.leave()
            if chain and not node.is_above(chain[-1]):
                chain[-1].adopt(node)
        everything = [*nodes, *(node for node in table.values() if node.index is None)]
        return [node for node in everything if node.parent is None]

    def prune(self, parent: Node) -> None:
        for node in list(parent.children):
            self.prune(node)
            at_root = parent is self.root
            if node.index is None and (not at_root or len(node.children) < 2):
                node.leave()
                for child in list(node.children):
                    parent.adopt(child)

    def merge(self) -> None:
        table: dict[str, Node] = {}
        for node in self.root.children:
            subject = self.subject(node)
            known = table.get(subject)
            if subject and (
                known is None
                or (
                    known.index is not None
                    and (node.index is None or (self.is_reply(known) and not self.is_reply(node)))
                )
            ):
                table[subject] = node
        for node in list(self.root.children):
            subject = self.subject(node)
            if not subject or table[subject] is node:
                continue
            known = table[subject]
            if known.index is None and node.index is None:
                for child in list(node.children):
                    known.adopt(child)
                node.leave()
            elif known.index is None or (self.is_reply(node) and not self.is_reply(known)):
                known.adopt(node)
            else:
                dummy = Node()
                self.root.adopt(dummy)
                dummy.adopt(known)
                dummy.adopt(node)
                table[subject] = dummy

    def sort(self, parent: Node) -> None:
        for node in parent.children:
            self.sort(node)
        parent.children.sort(key=self.key)

    def text(self, node: Node) -> str:
        groups = "".join(f"({self.text(child)})" for child in node.children)
        if node.index is None:
            return groups
        if len(node.children) == 1:
            return f"{node.index + 1} {self.text(node.children[0])}"
        return f"{node.index + 1} {groups}" if groups else str(node.index + 1)

    def render(self) -> str:
        for node in self.link():
            self.root.adopt(node)
        self.prune(self.root)
        self.root.children.sort(key=self.key)
        self.merge()
        self.sort(self.root)
        return self.text(self.root)


_ids = st.sampled_from("abcdefghij")
_members = st.lists(
    st.builds(
        Member,
        st.one_of(st.none(), _ids),
        st.lists(_ids, max_size=4).map(tuple),
        st.sampled_from(["", "X", "Y", "Z"]),
        st.booleans(),
        st.integers(0, 6).map(float),
        st.integers(0, 6).map(float),
    ),
    max_size=14,
)


@settings(max_examples=400)
@given(_members)
def test_references_are_what_the_rfc_says(members: list[Member]) -> None:
    numbers = range(1, len(members) + 1)
    assert by_references(members).render(numbers).decode() == Literal(members).render()


def test_threads_of_one_subject_whose_first_messages_are_not_there() -> None:
    members = [
        Member(str(index), (parent,), "S", True, float(index), 0.0)
        for index, parent in enumerate("xxyy")
    ]
    threads = by_references(members).render(range(1, 5)).decode()
    assert threads == Literal(members).render() == "((1)(2)(3)(4))"


@settings(max_examples=150)
@given(_members)
def test_every_message_is_in_one_place(members: list[Member]) -> None:
    for threads in (by_references(members), by_subject(members), by_refs(members)):
        text = threads.render(range(1, len(members) + 1)).decode()
        numbers = text.replace("(", " ").replace(")", " ").split()
        assert sorted(map(int, numbers)) == list(range(1, len(members) + 1))
        assert text.count("(") == text.count(")")


def test_a_chain_of_ten_thousand_is_no_recursion() -> None:
    members = [
        Member(str(index), (str(index - 1),) if index else (), "", False, float(index), 0.0)
        for index in range(10_000)
    ]
    for order in (members, members[::-1]):
        assert by_references(order).render(range(10_000)).count(b"(") == 1
        assert by_refs(order).render(range(10_000)).count(b"(") == 1


def _threads(forest: Forest, count: int) -> list[str]:
    """Return each thread as text."""
    return [
        Forest(forest.count, [root], forest.children).render(range(count)).decode()
        for root in forest.roots
    ]


@settings(max_examples=200)
@given(_members)
def test_refs_are_references_without_subjects_in_the_order_of_arrival(
    members: list[Member],
) -> None:
    refs = _threads(by_refs(members), len(members))
    plain = [member._replace(subject="") for member in members]
    assert sorted(refs) == sorted(_threads(by_references(plain), len(members)))
    latest = [
        max(members[int(number)].arrived for number in re.findall(r"\d+", text)) for text in refs
    ]
    assert latest == sorted(latest)


def _member(subject: str, sent: float, is_reply: bool = False) -> Member:
    return Member(None, (), subject, is_reply, sent, sent)


@pytest.mark.parametrize(
    ("members", "wanted"),
    [
        ([], b""),
        ([_member("A", 2), _member("B", 1)], b"(2)(1)"),
        ([_member("A", 1), _member("A", 2)], b"(1 2)"),
        ([_member("A", 1), _member("A", 3), _member("A", 2)], b"(1 (3)(2))"),
    ],
)
def test_one_level_below_a_subject(members: list[Member], wanted: bytes) -> None:
    assert by_subject(members).render(range(1, len(members) + 1)) == wanted
