"""The content filter on the SpamAssassin public corpus (2002 to 2003), and other filters beside it.

Two splits: by the first hexadecimal digit of the MD5 in the file name (even trains, odd tests), and
by folder (the older folders train, the newer ones test). What is tuned, weights and scores of
`calibration.py`, was found by cross-validation on the training half of the first split alone;
`--calibrate` prints them anew. `PHISHING` may name a folder of .eml files that nothing
was trained with (phishing_pot, say): the recall on it is told apart, with and without training.

A random split flatters whatever learns, as threads and campaigns fall on both sides of it.
"""

import argparse
import asyncio
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mailserver.antispam.content import calibration, rulefile
from mailserver.antispam.content.engine import Engine
from mailserver.antispam.content.filter import OWN_RULES, ContentFilter
from mailserver.antispam.content.model import SERVER_BITS, Counts, Lesson, delta_of, evidence
from mailserver.antispam.content.patterns import Budget, available
from mailserver.antispam.content.stored import as_inquiry, without_from_line
from mailserver.antispam.content.tokens import JUDGED_WORDS, features
from mailserver.antispam.content.views import Views
from mailserver.antispam.evidence import Inquiry
from mailserver.model import AccountId
from tests.data.corpus import load

CACHE = Path(".corpus")
JUNK_SCORE = 5.0
TARGET_RECALL, TARGET_FALSE, TARGET_CPU_MS = 0.95, 0.003, 5.0
FOLDS = 5
THEN = datetime(2002, 10, 1, tzinfo=UTC)  # about when the mails arrived
DATED = ("DATE_FAR_AHEAD", "DATE_LONG_AGO")  # rules about a moment that is not known here
SPAMD_SAMPLE = 100

Mails = Sequence[tuple[str, bytes]]
Score = Callable[[bytes], float]


class Memory:
    """What was learned, without a database."""

    def __init__(self, mails: Mails = ()) -> None:
        self.server = Counts(SERVER_BITS)
        for name, raw in mails:
            found = features(Views(as_inquiry(raw, THEN)))
            self.server.add(delta_of([Lesson(found, is_spam(name))], SERVER_BITS))

    async def refresh(self) -> None:
        """There is nothing new."""

    async def of_account(self, account: AccountId) -> Counts | None:
        """Nobody taught anything."""
        return None


def is_spam(name: str) -> bool:
    return name.startswith("spam")


def _digits(name: str) -> str:
    return name.rpartition(".")[2]


def by_digest(mails: Mails) -> tuple[Mails, Mails]:
    even = [each for each in mails if int(_digits(each[0])[0], 16) % 2 == 0]
    odd = [each for each in mails if int(_digits(each[0])[0], 16) % 2]
    return even, odd


def by_folder(mails: Mails) -> tuple[Mails, Mails]:
    """The folders with 1 are older; of the only hard one, the first half is."""
    hard = sorted(name for name, _ in mails if name.startswith("hard-ham"))
    older = set(hard[: len(hard) // 2])
    first = [m for m in mails if m[0].startswith(("easy-ham-1", "spam-1")) or m[0] in older]
    names = {name for name, _ in first}
    return first, [each for each in mails if each[0] not in names]


def measured(scores: Mapping[str, float], at: float) -> dict[str, float | int]:
    """Return how good scores are, at a threshold and at the false positives that are aimed at."""
    spam = [value for name, value in scores.items() if is_spam(name)]
    ham = sorted((value for name, value in scores.items() if not is_spam(name)), reverse=True)
    allowed = int(TARGET_FALSE * len(ham))
    false = sum(value >= at for value in ham)
    caught = sum(value >= at for value in spam)
    return {
        "spam": len(spam),
        "ham": len(ham),
        "threshold": at,
        "recall": round(caught / len(spam), 4),
        "precision": round(caught / max(caught + false, 1), 4),
        "false_positives": false,
        "false_positive_rate": round(false / len(ham), 5),
        "recall_at_target_rate": round(sum(v > ham[allowed] for v in spam) / len(spam), 4),
    }


async def _filter(memory: Memory, folders: Sequence[Path] = ()) -> ContentFilter:
    made = ContentFilter(folders, models=memory)
    await made.load()
    return made


async def _score(content: ContentFilter, inquiry: Inquiry) -> float:
    finding = await content.judge(inquiry, ())
    return sum(each.score for each in finding.symbols if each.name not in DATED)


async def scored(content: ContentFilter, mails: Mails) -> tuple[dict[str, float], float]:
    """Return the score of each mail, and the CPU time of one in milliseconds."""
    inquiries = [(name, as_inquiry(raw, THEN)) for name, raw in mails]
    started = time.process_time()
    found = {name: await _score(content, inquiry) for name, inquiry in inquiries}
    return found, 1000 * (time.process_time() - started) / max(len(mails), 1)


async def ours(train: Mails, test: Mails, folders: Sequence[Path] = ()) -> dict[str, Any]:
    started = time.process_time()
    memory = Memory(train)
    learning = 1000 * (time.process_time() - started) / max(len(train), 1)
    content = await _filter(memory, folders)
    scores, milliseconds = await scored(content, test)
    return {
        **measured(scores, JUNK_SCORE),
        "cpu_ms_per_message": round(milliseconds, 2),
        "learning_cpu_ms_per_message": round(learning, 2),
        "rules": len(content.engine),
    }


# Others, beside it -------------------------------------------------------------------------------


def bogofilter(train: Mails, test: Mails) -> dict[str, Any] | None:
    program = shutil.which("bogofilter")
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as directory:
        before = os.times()

        def run(option: str, mails: Mails) -> str:
            listed = Path(directory) / "list"
            files = []
            for number, (_, raw) in enumerate(mails):
                path = Path(directory) / f"{number}.eml"
                path.write_bytes(without_from_line(raw))
                files.append(str(path))
            listed.write_text("\n".join(files) + "\n")
            done = subprocess.run(
                [program, "-d", directory, "-b", *option.split()],
                stdin=listed.open("rb"), capture_output=True, text=True, check=False,
            )  # fmt: skip
            return done.stdout

        run("-s", [each for each in train if is_spam(each[0])])
        run("-n", [each for each in train if not is_spam(each[0])])
        trained = os.times()
        lines = run("-T", test).splitlines()
        after = os.times()
    scores = {name: float(line.split()[-1]) for (name, _), line in zip(test, lines, strict=True)}
    learned = _children(before, trained) / len(train)
    return {
        **measured(scores, 0.9),
        "at_0.5": measured(scores, 0.5),
        "cpu_ms_per_message": round(_children(trained, after) / len(test), 2),
        "learning_cpu_ms_per_message": round(learned, 2),
    }


def _children(before: os.times_result, after: os.times_result) -> float:
    user = after.children_user - before.children_user
    return 1000 * (user + after.children_system - before.children_system)


def spamassassin(test: Mails) -> dict[str, Any] | None:
    """Rules alone, without network, on a sample; the time to load them is not counted."""
    program = shutil.which("spamd")
    if program is None:
        return None
    step = max(len(test) // SPAMD_SAMPLE, 1)
    sample = [test[at] for at in range(0, len(test), step)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["-L", "-x", "-m", "1", "-i", "127.0.0.1", "-p", str(port), "-s", "null"]
    with subprocess.Popen([program, *options], stderr=subprocess.DEVNULL) as running:
        try:
            _asked(port, sample[0][1], patience=60)
            before = _processor_time(running.pid)
            scores = {name: _asked(port, without_from_line(raw)) for name, raw in sample}
            spent = _processor_time(running.pid) - before
        finally:
            running.terminate()
    return {**measured(scores, 5.0), "cpu_ms_per_message": round(1000 * spent / len(sample), 1)}


def _asked(port: int, raw: bytes, patience: float = 0) -> float:
    """Return the score that spamd gives."""
    end = time.monotonic() + patience
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 60) as peer:
                peer.sendall(b"CHECK SPAMC/1.5\r\nContent-length: %d\r\n\r\n" % len(raw) + raw)
                answer = peer.makefile("rb").read().decode("latin-1")
            return float(answer.split("Spam:", 1)[1].split(";")[1].split("/")[0])
        except (ConnectionError, IndexError):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def _processor_time(parent: int) -> float:
    """Return the seconds that a process and its children have used."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(stat.parent.name) == parent or int(fields[1]) == parent:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


# Phishing, which nothing was trained with --------------------------------------------------------


async def phishing(folder: Path, train: Mails, step: int) -> dict[str, Any]:
    paths = sorted(folder.rglob("*.eml"))[::step]
    mails = [(f"spam/{path.name}", path.read_bytes()) for path in paths]
    result: dict[str, Any] = {"mails": len(mails)}
    for label, memory in (("rules_alone", Memory()), ("trained_on_2002", Memory(train))):
        content = await _filter(memory)
        scores, milliseconds = await scored(content, mails)
        caught = sum(value >= JUNK_SCORE for value in scores.values())
        result[label] = {
            "recall": round(caught / max(len(mails), 1), 4),
            "cpu_ms_per_message": round(milliseconds, 2),
        }
    return result


# Calibration -------------------------------------------------------------------------------------


def calibrate(train: Mails) -> dict[str, Any]:
    """Fit the weights of groups by cross-validation on mails that are trained with."""
    rows = [(name, features(Views(as_inquiry(raw, THEN)))) for name, raw in train]
    judged = {name: features(Views(as_inquiry(raw, THEN)), JUDGED_WORDS) for name, raw in train}
    means: dict[str, list[float]] = {}
    for fold in range(FOLDS):
        counts = Counts(SERVER_BITS)
        lessons = (Lesson(f, is_spam(n)) for n, f in rows if _fold(n) != fold)
        counts.add(delta_of(lessons, SERVER_BITS))
        means |= {n: evidence(judged[n], counts) for n, _ in rows if _fold(n) == fold}
    margins: dict[str, float] = {}
    for fold in range(FOLDS):
        weights = _logistic([(means[n], is_spam(n)) for n, _ in rows if _fold(n) != fold])
        margins |= {name: _weighed(weights, means[name]) for name, _ in rows if _fold(name) == fold}
    engine = Engine(rulefile.load([OWN_RULES]))
    totals = {}
    for name, raw in train:
        outcome = engine.run(Views(as_inquiry(raw, THEN)), Budget(60, time.monotonic))
        ruled = sum(each.score for each in outcome.symbols if each.name not in DATED)
        totals[name] = calibration.score(margins[name]) + ruled
    weights = _logistic([(means[name], is_spam(name)) for name, _ in rows])
    return {
        "weights": [round(each, 2) for each in weights[:-1]],
        "bias": round(weights[-1], 2),
        "cross_validated": measured(totals, JUNK_SCORE),
    }


def _fold(name: str) -> int:
    return int(_digits(name)[5:9], 16) % FOLDS


def _weighed(weights: Sequence[float], values: Sequence[float]) -> float:
    return weights[-1] + sum(w * v for w, v in zip(weights, values, strict=False))


def _logistic(rows: Sequence[tuple[Sequence[float], bool]], penalty: float = 1e-3) -> list[float]:
    """Fit a logistic regression by Newton's method; the last weight is the constant."""
    size = len(rows[0][0]) + 1
    weights = [0.0] * size
    for _ in range(30):
        gradient = [-penalty * weight for weight in weights[:-1]] + [0.0]
        curvature = [
            [penalty if i == j < size - 1 else 0.0 for j in range(size)] for i in range(size)
        ]
        for values, spam in rows:
            extended = [*values, 1.0]
            value = max(min(sum(map(float.__mul__, weights, extended)), 30.0), -30.0)
            p = 1 / (1 + math.exp(-value))
            for i in range(size):
                gradient[i] += extended[i] * (spam - p) / len(rows)
                scale = extended[i] * p * (1 - p) / len(rows)
                for j in range(size):
                    curvature[i][j] += scale * extended[j]
        weights = [w + s for w, s in zip(weights, _solved(curvature, gradient), strict=True)]
    return weights


def _solved(matrix: list[list[float]], vector: list[float]) -> list[float]:
    """Solve linear equations by elimination."""
    size = len(vector)
    rows = [[*matrix[i], vector[i]] for i in range(size)]
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(rows[row][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for row in range(size):
            if row != column:
                factor = rows[row][column] / rows[column][column]
                rows[row] = [a - factor * b for a, b in zip(rows[row], rows[column], strict=True)]
    return [rows[i][size] / rows[i][i] for i in range(size)]


def run(quick: bool = False) -> dict[str, Any]:
    """Measure; `quick` leaves out the second split and the programs of others."""
    mails = load(CACHE)
    train, test = by_digest(mails)
    result: dict[str, Any] = {
        "corpus": {"mails": len(mails), "from": "2002 to 2003", "train": len(train)},
        "engines": list(available()) or ["re"],
        "targets": {
            "recall": TARGET_RECALL,
            "false_positive_rate": TARGET_FALSE,
            "cpu_ms_per_message": TARGET_CPU_MS,
        },
        "by_digest": asyncio.run(ours(train, test)),
    }
    folder = os.environ.get("PHISHING")
    if folder:
        result["phishing"] = asyncio.run(phishing(Path(folder), train, 20 if quick else 5))
    if quick:
        return result
    result["by_folder"] = asyncio.run(ours(*by_folder(mails)))
    result["rules_alone"] = asyncio.run(ours((), test))
    peers = {"bogofilter": bogofilter(train, test), "spamd": spamassassin(test)}
    result["peers"] = {name: found for name, found in peers.items() if found is not None}
    result["ratios"] = {  # ours to theirs
        name: {
            key: round(result["by_digest"][key] / found[key], 3)
            for key in ("recall_at_target_rate", "cpu_ms_per_message")
        }
        for name, found in result["peers"].items()
    }
    return result


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--calibrate", action="store_true", help="fit on the training half")
    options.add_argument("--quick", action="store_true")
    chosen = options.parse_args()
    if chosen.calibrate:
        json.dump(calibrate(by_digest(load(CACHE))[0]), sys.stdout, indent=2)
    else:
        json.dump(run(quick=chosen.quick), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
